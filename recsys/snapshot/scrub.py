"""Personal data that people type into comments, taken out before a comment is stored outside Postgres.

The patterns run in RE2, whose time is linear in the text: a 100 kB comment cannot stall an extraction.
They would rather take a little too much out (a long number) than leave a telephone number in.
"""

import pyarrow as pa
import pyarrow.compute as pc

# What a comment must have for a pattern to match, the pattern, and what stands in for it; looking for the
# first is several times faster. Links come first: they may hold what looks like an address or a number.
_REPLACEMENTS = (
    (r"://|(?i)www\.", r"(?i)\b(?:https?|ftp)://\S+|\bwww\.\S+", "[link]"),
    ("@", r"[\p{L}\p{N}._%+\-]+\s?@\s?[\p{L}\p{N}\-]+(?:\.[\p{L}\p{N}\-]+)+", "[e-mail]"),
    (
        r"\.[A-Za-z]",
        r"(?i)\b[a-z0-9][a-z0-9\-]*\.(?:com|org|net|io|info|me|co|ly|de|fr|uk|ru|cn)(?:/\S*)?\b",
        "[link]",
    ),
    # With an international or area prefix seven digits are a number, without one nine: "2020-2021" is none.
    (r"\d", r"(?:\+|\(\+?|\b)\d(?:[ \t.()/\-]{0,2}\d){8,}\b", "[number]"),
    (r"\d", r"(?:\+\d|\(\+?\d|\b0)(?:[ \t.()/\-]{0,2}\d){6,}\b", "[number]"),
)
_SUSPICIOUS = r"[@\d]|://|\.\S"
"""What a comment has in which any of the patterns matches."""


def scrub_comments(comments: pa.Array) -> pa.Array:
    """Return the comments with e-mail addresses, links and telephone numbers replaced by placeholders.

    Parameters
    ----------
    comments
        [events] of strings; null: none.
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
