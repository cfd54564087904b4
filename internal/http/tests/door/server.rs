//! The server's own routes: info, health, metrics, host key, the document and its page.

use std::collections::BTreeSet;

use serde_json::Value;
use shed_api::Scope;
use shed_api::server::HostKey;
use shed_http::Options;

use crate::support::{Door, ask, get, post};

#[tokio::test(flavor = "multi_thread")]
async fn info_describes_the_server_and_the_caller_s_scope() {
    let options = Options { ssh_port: Some(2222), http_port: Some(8080), ..Options::default() };
    let door = Door::with(options, None).await;
    let info = door.json(get("/api/info"), 200).await;
    assert_eq!((&info["name"], &info["server_id"]), (&"test".into(), &"test-server".into()));
    assert_eq!((&info["ssh_port"], &info["http_port"]), (&2222.into(), &8080.into()));
    assert_eq!((&info["engine"], &info["scope"]), (&"plain processes".into(), &"admin".into()));
    let token = door.token(Scope::Drive, &[]).await;
    assert_eq!(door.ask_tcp(get("/api/info").token(&token)).await.json()["scope"], "drive");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_live_and_ready() {
    let door = Door::start().await;
    let live = door.ask_tcp(get("/api/health/live")).await;
    assert_eq!((live.status, live.text().as_str()), (200, "live\n"));
    let ready = door.json(get("/api/health/ready"), 200).await;
    assert_eq!(ready, serde_json::json!({ "ready": true, "missing": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_key_is_shown_if_there_is_one() {
    let host_key = HostKey { host_key: "ssh-ed25519 AAAA".into(), fingerprint: "SHA256:x".into() };
    let options = Options { host_key: Some(host_key.clone()), ..Options::default() };
    let door = Door::with(options, None).await;
    let shown = door.json(get("/api/ssh-host-key"), 200).await;
    assert_eq!(shown, serde_json::to_value(host_key).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_in_the_openmetrics_text_format() {
    let door = Door::with_shed().await;
    door.json(post("/api/sheds/a/sessions", r#"{"name":"work"}"#), 201).await;
    door.refused(get("/api/sheds/b")).await;
    let reply = door.ask(get("/metrics")).await;
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "shed_http_requests_total{status=\"2xx\"} 1",
        "shed_http_requests_total{status=\"4xx\"} 1",
        "shed_sheds{status=\"running\"} 1",
        "shed_sheds{status=\"failed\"} 0",
        "shed_links 1",
        "shed_sessions 1",
        "shed_ready 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} is not in {text}");
    }
    // Every sample belongs to a described family, and its value is a number.
    let families: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap();
        assert!(families.contains(name.strip_suffix("_total").unwrap_or(name)), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// Every value of `key` anywhere in `value`.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|value| all(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_complete() {
    let door = Door::start().await;
    let document = door.json(get("/api/openapi.json"), 200).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut refs = Vec::new();
    all(&document, "$ref", &mut refs);
    assert!(refs.len() > 50);
    for found in refs {
        let path = found.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(path).is_some(), "{path} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let in_path: BTreeSet<&str> =
            path.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect();
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{what}: {id} twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{what}");
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let declared: BTreeSet<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(declared, in_path, "{what}");
            assert!(parameters.iter().all(|parameter| parameter["schema"].is_object()), "{what}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(!responses.is_empty(), "{what}");
            for (status, response) in responses {
                let is_problem = response["$ref"].is_string();
                assert!(is_problem || status.parse::<u16>().is_ok(), "{what}: {status}");
                assert!(is_problem || response["description"].is_string(), "{what}: {status}");
            }
            assert_eq!(responses["default"]["$ref"], "#/components/responses/Problem", "{what}");
            let takes_body = ["post", "patch"].contains(&method.as_str());
            assert!(takes_body || operation.get("requestBody").is_none(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_but_this_server() {
    let door = Door::start().await;
    let page = door.ask_tcp(get("/api/docs")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("eval") && !policy.contains("http"), "{policy}");
    let text = page.text();
    for inline in ["<script>", "<style", "style=", "onclick", "onload", "javascript:"] {
        assert!(!text.contains(inline), "{inline}");
    }
    let mut n_files = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in text.split(attribute).skip(1) {
            let path = rest.split('"').next().unwrap();
            if path == "data:," {
                continue;
            }
            let file = door.ask_tcp(get(path)).await;
            assert_eq!(file.status, 200, "{path}");
            assert!(!file.body.is_empty());
            n_files += 1;
        }
    }
    assert_eq!(n_files, 6);
    for code in shed_api::Code::ALL {
        assert!(text.contains(&format!("<tr id=\"{}\">", code.as_str())), "{code:?}");
    }
    assert!(!text.contains("<!--PROBLEMS-->"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_page_is_compressed_and_sent_once() {
    let door = Door::start().await;
    let path = "/api/docs/swagger-ui-bundle.js";
    let first = door.ask_tcp(get(path)).await;
    assert_eq!(first.header("content-encoding"), Some("gzip"));
    assert_eq!(first.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert!(first.body.starts_with(&[0x1f, 0x8b]) && first.body.len() < 600_000);
    let tag = first.header("etag").unwrap();
    let again = door.ask_tcp(get(path).header("if-none-match", tag)).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let other = door.ask_tcp(get(path).header("if-none-match", "\"0\"")).await;
    assert_eq!(other.status, 200);
    assert_eq!(door.ask(get("/api/docs/swagger-ui.css.gz")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_reported() {
    let door = Door::start().await;
    let none = (404, "route-not-found".to_owned());
    for path in
        ["/", "/api", "/api/", "/api/shed", "/api/sheds/a/b", "/api/docs/x", "/..", "/api/../etc"]
    {
        assert_eq!(door.refused(get(path)).await, none, "{path}");
    }
    let not_so = (405, "method-not-allowed".to_owned());
    for request in [
        ask("PUT", "/api/sheds"),
        ask("DELETE", "/api/sheds"),
        ask("OPTIONS", "/api/info"),
        ask("POST", "/api/docs"),
        ask("BREW", "/api/sheds/a"),
    ] {
        assert_eq!(door.refused(request).await, not_so);
    }
    let head = door.ask(ask("HEAD", "/api/health/live").header("connection", "keep-alive")).await;
    assert_eq!(head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_a_request_id_and_security_headers() {
    let door = Door::start().await;
    let reply = door.ask(get("/api/info")).await;
    assert_eq!(reply.header("x-request-id").unwrap().len(), 16);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(reply.header(name), Some(value));
    }
    let own = |id: &str| get("/api/sheds/b").header("x-request-id", id);
    let reply = door.ask(own("build-7.a_B")).await;
    assert_eq!(reply.header("x-request-id"), Some("build-7.a_B"));
    assert_eq!(reply.problem().0, 404);
    for unfit in ["a b", "x\ty", "", "<script>", &"x".repeat(65)] {
        let reply = door.ask(own(unfit)).await;
        assert_ne!(reply.header("x-request-id"), Some(unfit));
        assert_eq!(reply.header("x-request-id").unwrap().len(), 16);
    }
}
