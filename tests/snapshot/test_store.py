import sys

import pytest

from recsys.errors import ConfigurationError
from recsys.snapshot.store import Folder


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("s3://bucket/snapshots", "s3fs", "s3"), ("gs://bucket", "gcsfs", "gcs")]
)
def test_object_store_without_its_client_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigurationError) as caught:
        Folder(url)

    assert url in str(caught.value)
    assert package in str(caught.value)
    assert f"'.[{extra}]'" in str(caught.value)


def test_unknown_protocol_is_named_with_what_is_possible() -> None:
    with pytest.raises(ConfigurationError, match=r"nope://there.*Protocol not known.*RECSYS_SNAPSHOT_ROOT"):
        Folder("nope://there")
