"""Loads and statements that the warehouse refuses, full of ids and comments."""

import io

import psycopg2
import pytest
import sqlalchemy as sa

from tests.e2e.leaks import COMMENT, PERSON
from tests.e2e.stack import Stack

_FEEDBACK = "event_id,user_id,item_id,event_type,value,comment,occurred_at\n"
_EVENT = f"{PERSON}-event,{PERSON}-bad"


def load_what_is_refused(stack: Stack) -> None:
    """Load files with bad rows, without a header, and with the words of requests."""
    folder = stack.comments.parent
    refused = {
        "feedback.csv": f"{_FEEDBACK}{_EVENT},1,rating,{COMMENT},{COMMENT},noon\n"
        f"{_EVENT},1,like,1,\0{COMMENT},0\n",
        "no_header.csv": f"{_EVENT},1,like,1,{COMMENT},0\n{_EVENT},2,like,1,{COMMENT},0\n",
    }
    for name, content in refused.items():
        path = folder / name
        path.write_text(content)
        assert stack.run("ingest", "feedback", str(path)).returncode == 2, name
    assert (folder / "feedback.csv.rejected.jsonl").stat().st_mode & 0o777 == 0o600
    requests = folder / "impressions.csv"
    requests.write_text(
        f'impression_id,user_id,query,item_ids,shown_at\n{PERSON}-slate,{PERSON}-u001,{COMMENT},"[""1""]",0\n'
    )
    stack.recsys("ingest", "impressions", str(requests))


def write_what_is_refused(stack: Stack) -> None:
    """Insert and copy as an application does, whose mistakes the pipeline never sees."""
    url = sa.make_url(stack.settings.require_warehouse_url()).set(drivername="postgresql")
    session = psycopg2.connect(url.render_as_string(hide_password=False))
    session.autocommit = True
    insert = f"INSERT INTO feedback ({_FEEDBACK.strip()}) VALUES (%s, %s, '1', %s, %s, %s, now())"
    with session.cursor() as cursor:
        for row in (
            (f"{PERSON}-event", f"{PERSON}-u001", None, 1, COMMENT),
            (f"{PERSON}-event", f"{PERSON}-u001", "like", COMMENT, COMMENT),
        ):
            with pytest.raises(psycopg2.Error):
                cursor.execute(insert, row)
        for lines in (f"{PERSON}-u001,t\n", f"{PERSON}-u001,{COMMENT}\n"):
            with pytest.raises(psycopg2.Error):
                cursor.copy_expert("COPY users (user_id, consent) FROM STDIN CSV", io.StringIO(lines))
    session.close()
