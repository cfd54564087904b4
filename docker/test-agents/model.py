#!/usr/bin/env python3
"""A stand-in for the models of the four agents. It answers each prompt with `answer to: PROMPT` and counts the prompts.

It runs in a shed, on the shed's loopback, and speaks as much of three APIs as the agents need for a turn without tools:
Anthropic Messages (Claude Code, OpenCode), OpenAI Responses (Codex), Gemini. Each turn is appended to LOG as a line of JSON: the path of the
request, the prompt, and all texts of the user in the request. Requests that offer no tools are for a title or a summary; they are
answered and not written down.

    python3 model.py PORT LOG
"""

import http.server
import json
import re
import sys
import threading

# What the agents add to the user's text.
ADDED = re.compile(r"<(system-reminder|environment_context|user_instructions|session_context)>.*?</\1>", re.S)
LOCK = threading.Lock()


def texts(content):
    """The texts of a message's content, in any of the three forms."""
    parts = [content] if isinstance(content, (str, dict)) else content or []
    return [part if isinstance(part, str) else part.get("text", "") for part in parts if isinstance(part, (str, dict))]


def said_by_user(body):
    """All that the user has said in a request's conversation, oldest first."""
    items = body.get("messages") or body.get("input") or body.get("contents") or []
    said = []
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        if item.get("role") == "user":
            found = (ADDED.sub("", text or "").strip() for text in texts(item.get("content") or item.get("parts")))
            said += [text for text in found if text]
    return said


def schema_of(body):
    """The JSON schema that a request wants its answer in, if any."""
    wanted = [
        (body.get("generationConfig") or {}).get("responseJsonSchema"),
        ((body.get("text") or {}).get("format") or {}).get("schema"),
        ((body.get("output_config") or {}).get("format") or {}).get("schema"),
    ]
    return next((schema for schema in wanted if schema), None)


def fitting(schema):
    """A JSON text that fits a schema of one level."""
    plain = {"boolean": False, "number": 0, "integer": 0, "array": [], "object": {}}
    fields = schema.get("properties", {}).items()
    return json.dumps({name: field.get("enum", [plain.get(str(field.get("type")).lower(), "text")])[0] for name, field in fields})


def offers_tools(body):
    """Whether the request is a turn of the conversation: only such a one offers tools."""
    items = body.get("input")
    return bool(body.get("tools")) or (isinstance(items, list) and any(item.get("tools") for item in items))


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.whole({"object": "list", "data": [{"id": "stand-in", "object": "model"}]})

    do_HEAD = do_GET

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw or b"{}")
        path = self.path.split("?")[0]
        dialects = {
            "/messages": self.say_anthropic,
            "/responses": self.say_responses,
            "enerateContent": self.say_gemini,
        }
        answer = next((answer for end, answer in dialects.items() if path.endswith(end)), None)
        if answer is None:  # a count of tokens, or telemetry
            return self.whole({"input_tokens": 1, "totalTokens": 1})
        said = said_by_user(body)
        schema = schema_of(body)
        text = fitting(schema) if schema else "a title"
        if not schema and offers_tools(body):
            text = f"answer to: {said[-1] if said else ''}"
            with LOCK, open(self.log, "a", encoding="utf-8") as log:
                log.write(json.dumps({"path": path, "prompt": said[-1] if said else "", "said": said}) + "\n")
        answer(body, text)

    def whole(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *events, named=True):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in events:
            name = f"event: {event['type']}\n" if named else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())

    def say_anthropic(self, body, text):
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model"), "content": [], "usage": usage}
        message |= {"stop_reason": None, "stop_sequence": None}
        if not body.get("stream"):
            return self.whole(message | {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"})
        self.stream(
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        )

    def say_responses(self, body, text):
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        response = {"id": "resp_1", "object": "response", "status": "in_progress", "model": body.get("model"), "output": []}
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"type": "message", "id": "item_1", "role": "assistant", "status": "completed", "content": content}
        self.stream(
            {"type": "response.created", "response": response},
            {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": [], "status": "in_progress"}},
            {"type": "response.output_text.delta", "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": text},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response | {"status": "completed", "output": [item], "usage": usage}},
        )

    def say_gemini(self, _body, text):
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
        answer = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stand-in", "responseId": "1"}
        if "stream" in self.path:
            self.stream(answer, named=False)
        else:
            self.whole(answer)


def main():
    port, Model.log = int(sys.argv[1]), sys.argv[2]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Model)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
