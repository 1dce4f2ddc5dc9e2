"""Requests of every kind that the dashboard tells apart, a known number of each."""

import base64
import collections
import concurrent.futures
import time

from support import DEMO

PICTURE = "05-shape-en.png"
ROUNDS = 6


def data_url(data=None):
    """An image as a data: URL."""
    data = (DEMO / "images" / PICTURE).read_bytes() if data is None else data
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def asking(text, url=None, **more):
    """A chat request, with an image where there is a URL."""
    content = [{"type": "text", "text": text}]
    if url:
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    return {"model": "demo", "messages": [{"role": "user", "content": content}], **more}


class Client:
    """Sends to one server, and counts the statuses that it sees."""

    def __init__(self, porthole):
        self.porthole = porthole
        self.statuses = collections.Counter()

    def ask(self, body, key="main", credential=None, **more):
        """One request; the credential of a key, or another."""
        credential = credential or self.porthole.keys[key]
        headers = {"Authorization": f"Bearer {credential}"}
        url = f"{self.porthole.url}/v1/chat/completions"
        response = self.porthole.session.post(url, json=body, headers=headers, timeout=120, **more)
        self.statuses[response.status_code] += 1
        return response

    def expect(self, status, body, **more):
        """One request whose status is known."""
        response = self.ask(body, **more)
        assert response.status_code == status, f"{response.status_code} for {status}: {response.text[:300]}"
        return response

    def cancel(self):
        """A stream that is left after its first words."""
        story = asking("Tell me a story about this image.", data_url(), stream=True)
        with self.ask(story, stream=True) as response:
            assert response.status_code == 200
            next(line for line in response.iter_lines() if b'"content":"' in line and b'"content":""' not in line)

    def crowd(self):
        """Too many at once: some are answered 503."""
        story = asking("Tell me a story about this image.", data_url())
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            statuses = [response.status_code for response in pool.map(self.ask, [story] * 16)]
        assert set(statuses) == {200, 503}, statuses

    def one_round(self, number):
        """Some of everything."""
        picture = f"{self.porthole.images_url}/{PICTURE}"
        self.expect(200, asking("What are you able to do?"))
        self.expect(200, asking("What shape is this?", data_url()))
        # Fetched, and the next time kept; another query is another picture.
        self.expect(200, asking("What shape is this?", picture))
        self.expect(200, asking("What shape is this?", f"{picture}?{number}"))
        self.expect(200, asking("What are you able to do?", max_completion_tokens=2))
        with self.ask(asking("What shape is this?", data_url(), stream=True), stream=True) as response:
            assert response.status_code == 200 and b"data: [DONE]" in response.content
        self.cancel()
        self.expect(400, {"model": "demo", "messages": "none"})
        self.expect(404, asking("Hi") | {"model": "other"})
        self.expect(415, asking("What is it?", data_url(b"no image at all")))
        self.expect(400, asking("What is it?", "http://127.0.0.1:1/x.png"))
        self.expect(400, asking("What is it?", f"{self.porthole.images_url}/absent.png"))
        self.expect(401, asking("Hi"), credential="pk-nobody")
        self.expect(403, asking("Hi"), key="away")
        self.expect(429, asking("Hi"), key="spent")
        self.porthole.session.get(f"{self.porthole.url}/somewhere", timeout=10)


def send(porthole):
    """All of it, over some seconds, so that there are rates; returns how many got which status."""
    client = Client(porthole)
    for number in range(ROUNDS):
        client.one_round(number)
        # The third of a minute is one too many.
        if number < 3:
            client.expect(200 if number < 2 else 429, asking("Hi", max_completion_tokens=2), key="brisk")
        client.crowd()
        # A key more, as an operator makes it while the server runs.
        porthole.make_key(f"late-{number}")
        time.sleep(1)
    return client.statuses
