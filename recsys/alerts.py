"""Alerts to people: always the log, and a webhook when one is configured."""

import logging

from recsys.settings import Settings

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0


def send_alert(settings: Settings, text: str) -> bool:
    """Log an alert and post it as `{"text": ...}`, the form that chat webhooks take.

    An alert reports trouble and must not add to it: a webhook that fails is logged, never raised.

    Returns
    -------
    bool
        Whether a webhook took the alert.
    """
    logger.error("ALERT %s", text)
    if settings.alert_webhook is None:
        return False
    import httpx

    try:
        response = httpx.post(
            settings.alert_webhook.get_secret_value(), json={"text": text}, timeout=_TIMEOUT_SECONDS
        )
        response.raise_for_status()
    except httpx.HTTPError as error:
        # The address is a secret, so only the kind of failure is logged.
        logger.error("The alert webhook did not take the alert: %s", type(error).__name__)
        return False
    return True
