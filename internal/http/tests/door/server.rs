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
                assert!(status.parse::<u16>().is_ok(), "{what}: {status}");
                assert!(response["description"].is_string(), "{what}: {status}");
            }
            let takes_body = ["post", "patch"].contains(&method.as_str());
            assert!(takes_body || operation.get("requestBody").is_none(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_self_contained() {
    let door = Door::start().await;
    let page = door.ask_tcp(get("/api/docs")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let text = page.text();
    for elsewhere in
        ["src=", "href=\"http", "@import", "url(", "<link", "<iframe", "fetch(", "XMLHttpRequest"]
    {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(text.matches("</script").count(), 1);
    assert!(!text.contains("/*DOCUMENT*/null"));
    let line = text.lines().find_map(|line| line.strip_prefix("const doc = ")).unwrap();
    let inside: Value = serde_json::from_str(line.trim_end_matches(';')).unwrap();
    assert_eq!(inside, door.json(get("/api/openapi.json"), 200).await);
    let line = text.lines().find_map(|line| line.strip_prefix("const codes = ")).unwrap();
    let codes: Value = serde_json::from_str(line.trim_end_matches(';')).unwrap();
    let codes: Vec<_> = codes.as_array().unwrap().iter().collect();
    assert!(codes.iter().all(|one| one["about"].as_str().unwrap().ends_with('.')), "{codes:?}");
    let codes: Vec<_> = codes.iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, shed_api::Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>());
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
