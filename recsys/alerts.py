"""Send alerts to people: to the log, and to a webhook if one is configured."""

import logging

from recsys.settings import Settings

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0


def send_alert(settings: Settings, text: str) -> bool:
    """Log an alert and post it to the webhook as `{"text": ...}`, the format of chat webhooks.

    Whatever goes wrong with the webhook (no answer, an address that is none, a missing certificate file) is
    logged and never raised, so that an alert cannot make a run fail.

    Returns
    -------
    bool
        Whether a webhook accepted the alert.
    """
    logger.error("ALERT %s", text)
    if settings.alert_webhook is None:
        return False
    try:
        import httpx

        response = httpx.post(
            settings.alert_webhook.get_secret_value().strip(), json={"text": text}, timeout=_TIMEOUT_SECONDS
        )
        response.raise_for_status()
    except Exception as error:
        # The error would reveal the webhook's address, which is a secret.
        logger.error("the alert webhook did not accept the alert: %s", type(error).__name__)
        return False
    return True
