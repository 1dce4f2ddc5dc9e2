import pytest
from openai import AsyncOpenAI, OpenAI

from support import KEY, URL

# Answers that do not fit the SDK's own types are errors then, rather than passed on as they are;
# without retries a test sees the first answer and not the luck of a later one.
OPTIONS = {
    "base_url": URL,
    "api_key": KEY,
    "max_retries": 0,
    "timeout": 60,
    "_strict_response_validation": True,
}


@pytest.fixture(scope="session")
def client():
    with OpenAI(**OPTIONS) as client:
        yield client


@pytest.fixture
def make_async_client():
    """Makes an async client; inside the event loop that uses it, for it keeps connections of that loop."""
    return lambda: AsyncOpenAI(**OPTIONS)
