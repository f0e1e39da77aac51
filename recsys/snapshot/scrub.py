"""Remove personal data from comments before they are stored outside Postgres.

The patterns run in RE2, whose time is linear in the length of the text, so a 100 kB comment cannot stall an
extraction. They remove a little too much (any long number) rather than leave a telephone number in.
"""

import pyarrow as pa
import pyarrow.compute as pc

# Quick test, pattern and placeholder. Only comments that pass the test, which is several times faster, are
# matched with the pattern. Links come first because they may contain what looks like an address or a number.
_REPLACEMENTS = (
    (r"://|(?i)www\.", r"(?i)\b(?:https?|ftp)://\S+|\bwww\.\S+", "[link]"),
    ("@", r"[\p{L}\p{N}._%+\-]+\s?@\s?[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)+", "[e-mail]"),
    (
        r"\.[A-Za-z]",
        r"(?i)\b[a-z0-9][a-z0-9\-]*\.(?:com|org|net|io|info|me|co|ly|de|fr|uk|ru|cn)(?:/\S*)?\b",
        "[link]",
    ),
    # Nine digits are a telephone number, and seven with an international or area prefix. "2020-2021" is not
    # one.
    (r"\d", r"(?:\+|\(\+?|\b)\d(?:[ \t.()/\-]{0,2}\d){8,}\b", "[number]"),
    (r"\d", r"(?:\+\d|\(\+?\d|\b0)(?:[ \t.()/\-]{0,2}\d){6,}\b", "[number]"),
)
_SUSPICIOUS = r"[@\d]|://|\.\S"
"""Matches every comment that one of the patterns matches."""


def scrub_comments(comments: pa.Array) -> pa.Array:
    """Return the comments with e-mail addresses, links and telephone numbers replaced by placeholders.

    Parameters
    ----------
    comments
        `[events]` of strings; null for none.
    """
    if comments.null_count == len(comments):
        return comments
    suspicious = pc.fill_null(pc.match_substring_regex(comments, _SUSPICIOUS), False)
    scrubbed = comments.filter(suspicious)
    for needed, pattern, placeholder in _REPLACEMENTS:
        candidates = pc.match_substring_regex(scrubbed, needed)
        if pc.any(candidates).as_py():
            replaced = pc.replace_substring_regex(
                scrubbed.filter(candidates), pattern=pattern, replacement=placeholder
            )
            scrubbed = pc.replace_with_mask(scrubbed, candidates, replaced)
    return pc.replace_with_mask(comments, suspicious, scrubbed)
