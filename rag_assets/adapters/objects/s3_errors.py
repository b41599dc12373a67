"""What errors of S3 mean.

What belongs here: telling a conflict, bad credentials and a server that is down apart. What does
not: the project's errors that are raised for them.
"""

from botocore.exceptions import BotoCoreError, NoCredentialsError

S3_ERRORS = (OSError, BotoCoreError)
"""What s3fs raises: error responses as OSError, and missing responses as botocore's errors."""

BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
)
UNAVAILABLE = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503", "500")
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


def refuses_credentials(error: Exception) -> bool:
    """Whether S3 rejects the credentials themselves, and not just access to one object."""
    return error_code(error) in BAD_CREDENTIALS or isinstance(error, NoCredentialsError)


def is_unavailable(error: Exception) -> bool:
    """Whether S3 cannot be reached or is rate-limiting."""
    return isinstance(error, BotoCoreError | ConnectionError | TimeoutError) or (
        error_code(error) in UNAVAILABLE
    )


def error_code(error: BaseException) -> str:
    """Return S3's error code, which s3fs keeps in the cause of its own error."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
