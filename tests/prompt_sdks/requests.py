"""Has the real SDKs build requests and keeps what they send: NAME.json and NAME.headers.json in the folder given, and
fields.json, the fields that their type files name. Every call is answered with an error; nothing leaves the machine."""

import importlib
import json
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic
import openai

OUT = pathlib.Path(sys.argv[1])


class Capture(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.headers["x-capture"]
        (OUT / f"{name}.json").write_bytes(body)
        kept = {key.lower(): value for key, value in self.headers.items() if key.lower().startswith("anthropic-")}
        (OUT / f"{name}.headers.json").write_text(json.dumps(kept))
        answer = b'{"error": {"type": "invalid_request_error", "message": "captured"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def send(name, call, **params):
    try:
        stream = call(extra_headers={"x-capture": name}, **params)
        if hasattr(stream, "__enter__"):
            with stream as events:
                list(events)
    except (anthropic.APIStatusError, openai.APIStatusError):
        pass
    assert (OUT / f"{name}.json").exists(), name


server = HTTPServer(("127.0.0.1", 0), Capture)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"

TURNS = [
    {"role": "user", "content": "Rename idx to i in rows.py"},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Reading."},
            {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"path": "rows.py", "lines": 10}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": "for idx in rows:"}]},
]
TOOL = {"name": "Read", "description": "Read a file", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
messages = dict(model="claude-opus-4-8", max_tokens=1024, system="You are a coding agent.", tools=[TOOL], messages=TURNS)
claude = anthropic.Anthropic(api_key="none", base_url=url, max_retries=0)
send("messages", claude.messages.create, **messages)
send("messages-stream", claude.messages.create, stream=True, **messages)
send("messages-helper", claude.messages.stream, **messages)
send("messages-user", claude.messages.create, metadata={"user_id": "u1"}, service_tier="auto", **messages)
send("messages-more", claude.messages.create, **{**messages, "max_tokens": 2048})
send("messages-beta", claude.beta.messages.create, betas=["context-1m-2025-08-07"], **messages)
marked = {**messages, "system": [{"type": "text", "text": messages["system"], "cache_control": {"type": "ephemeral"}}]}
send("messages-marked", claude.messages.create, **marked)
send("messages-search", claude.messages.create, **{**messages, "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]})

gpt = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
chat_turns = [
    {"role": "developer", "content": "You are a coding agent."},
    {"role": "user", "content": "Rename idx to i in rows.py"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "read", "arguments": '{"path":"rows.py"}'}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "for idx in rows:"},
]
chat_tool = {"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {}}}}
chat = dict(model="gpt-5-2025-08-07", messages=chat_turns, tools=[chat_tool])
send("chat", gpt.chat.completions.create, **chat)
send("chat-stream", gpt.chat.completions.create, stream=True, stream_options={"include_usage": True}, **chat)
send("chat-user", gpt.chat.completions.create, user="u1", prompt_cache_key="k", **chat)
send("chat-seed", gpt.chat.completions.create, seed=7, **chat)
send("chat-warm", gpt.chat.completions.create, temperature=0.7, **chat)

items = [
    {"role": "user", "content": "Rename idx to i in rows.py"},
    {"type": "function_call", "call_id": "call_1", "name": "read", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "for idx in rows:"},
]
responses = dict(model="gpt-5-2025-08-07", instructions="You are a coding agent.", input=items)
send("responses", gpt.responses.create, store=False, **responses)
send("responses-stream", gpt.responses.create, store=False, stream=True, **responses)
send("responses-stored", gpt.responses.create, **responses)
send("responses-after", gpt.responses.create, store=False, previous_response_id="resp_1", **responses)
send("responses-effort", gpt.responses.create, store=False, reasoning={"effort": "high"}, **responses)
server.shutdown()

fields = {}
for api, module, name in [
    ("anthropic.messages", "anthropic.types.message_create_params", "MessageCreateParamsBase"),
    ("anthropic.messages", "anthropic.types.beta.message_create_params", "MessageCreateParamsBase"),
    ("openai.chat", "openai.types.chat.completion_create_params", "CompletionCreateParamsBase"),
    ("openai.responses", "openai.types.responses.response_create_params", "ResponseCreateParamsBase"),
]:
    found = getattr(importlib.import_module(module), name).__annotations__
    fields.setdefault(api, set()).update(found)
(OUT / "fields.json").write_text(json.dumps({api: sorted(names) for api, names in fields.items()}))
