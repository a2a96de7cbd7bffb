"""Gives recorded streams to the real SDKs again and compares what they make of them with the recorded responses.

replay.py FOLDER: NAME.sse and NAME.json for each of messages, chat and responses. Ends with an error where one differs."""

import json
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic
import openai

FOLDER = pathlib.Path(sys.argv[1])


class Replay(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        answer = (FOLDER / f"{self.headers['x-replay']}.sse").read_bytes()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def within(small, large, at):
    """Fails unless everything that the first says is said by the second."""
    if isinstance(small, dict):
        for name, value in small.items():
            if value is not None:
                assert name in large, f"{at}/{name} is missing"
                within(value, large[name], f"{at}/{name}")
    elif isinstance(small, list):
        assert len(small) == len(large), f"{at} has another length"
        for index, pair in enumerate(zip(small, large)):
            within(*pair, f"{at}/{index}")
    else:
        assert small == large, f"{at}: {small!r} is now {large!r}"


def without_additions(members):
    added = ["parsed", "parsed_arguments"] + (["index"] if "function" in members else [])
    return {name: value for name, value in members.items() if name not in added}


def compare(name, replayed):
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    dumped = replayed.model_dump(mode="json", exclude_none=True)
    within(stored, dumped, name)
    # Nor does the replay say more, beyond what these SDKs add: parsed arguments, and the places of calls in the stream.
    plain = json.loads(json.dumps(dumped), object_hook=without_additions)
    within(plain, stored, name)
    print(f"{name}: the replayed stream is the recorded response")


server = HTTPServer(("127.0.0.1", 0), Replay)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
claude = anthropic.Anthropic(api_key="none", base_url=url, max_retries=0)
gpt = openai.OpenAI(api_key="none", base_url=url, max_retries=0)


def replay(name):
    return {"extra_headers": {"x-replay": name}}


turns = [{"role": "user", "content": "Rename idx to i in rows.py"}]
with claude.messages.stream(model="claude-opus-4-8", max_tokens=1024, messages=turns, **replay("messages")) as stream:
    compare("messages", stream.get_final_message())
with gpt.chat.completions.stream(model="gpt-5-2025-08-07", messages=turns, **replay("chat")) as stream:
    compare("chat", stream.get_final_completion())
with gpt.responses.stream(model="gpt-5-2025-08-07", input=turns, store=False, **replay("responses")) as stream:
    compare("responses", stream.get_final_response())
server.shutdown()
