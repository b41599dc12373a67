"""What a failed request for one object is about: the object, or the bucket and how it is reached.

The codes about one object cannot be listed: a key that is disabled, an archived object, one stored
with a customer's key, and whatever another server than Amazon's says. So the others are.
"""

from botocore.exceptions import (
    BotoCoreError,
    FlexibleChecksumError,
    IncompleteReadError,
    ParamValidationError,
    ResponseStreamingError,
)

from rag_assets.adapters.objects.s3_errors import is_unavailable, refuses_credentials
from rag_assets.core.errors import CredentialsError, SourceError, SourceUnavailableError

SERVER_ERRORS = frozenset({"InternalError", "500", "502", "504"})
"""Codes of a server in trouble, or in trouble with one object."""

ABOUT_THE_BUCKET = frozenset(
    {
        "NoSuchBucket",
        "InvalidBucketName",
        "AccountProblem",
        "NotSignedUp",
        "InvalidSecurity",
        "RequestTimeTooSkewed",
        "PermanentRedirect",
        "301",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
ABOUT_THE_ANSWER = (
    FlexibleChecksumError,
    IncompleteReadError,
    ParamValidationError,
    ResponseStreamingError,
)


def s3_code(error: Exception) -> str:
    """Return S3's error code, which s3fs keeps in the cause of its own error; empty if none."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def is_about_source(error: Exception) -> bool:
    """Whether an error of a request for one object says something about all of them."""
    if isinstance(error, ABOUT_THE_ANSWER):
        return False
    return (
        isinstance(error, BotoCoreError)
        or refuses_credentials(error)
        or is_unavailable(error)
        or s3_code(error) in ABOUT_THE_BUCKET
    )


def source_error(message: str, error: Exception) -> SourceError | CredentialsError:
    """Return the error to end a run with."""
    if refuses_credentials(error) or isinstance(error, PermissionError):
        return CredentialsError(f"{message} Check the credentials and their permissions.")
    return (SourceUnavailableError if is_unavailable(error) else SourceError)(message)
