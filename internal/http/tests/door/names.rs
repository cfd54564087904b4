//! Invalid names, on every route that has a name.

use std::fmt::Write as _;

use shed_testing::eventually;

use crate::routes::ROUTES;
use crate::support::{Door, ask, get, post};

/// Invalid names as in a path.
fn hostile(canary: &str) -> Vec<String> {
    let long = "a".repeat(64);
    let by_hand = [
        "..",
        "#(id)",
        "-x",
        "ü",
        "a\0b",
        "a b",
        "a/b",
        "../a",
        "_api",
        "$(id)",
        "`id`",
        "a;id",
        "a:0.0",
        "=a",
        "\u{202e}a",
    ];
    let commands =
        [format!("#(touch {canary})"), format!("$(touch {canary})"), format!("x;touch {canary};")];
    let mut names: Vec<String> = by_hand.into_iter().map(str::to_owned).collect();
    names.extend(commands);
    names.extend([long, "a".repeat(5_000)]);
    names
}

fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        write!(escaped, "%{byte:02X}").unwrap();
    }
    escaped
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_in_a_path_are_refused() {
    let door = Door::with_shed().await;
    let canary = door.test.dir().join("canary");
    let invalid = (400, "invalid-name".to_owned());
    for name in hostile(canary.to_str().unwrap()) {
        let bad = escaped(&name);
        for route in ROUTES.iter().filter(|route| route.path.contains("{n}")) {
            let mut requests = vec![ask(route.method, &route.at(&bad, "work"))];
            if route.path.contains("{s}") {
                requests.push(ask(route.method, &route.at("a", &bad)));
            }
            if route.path.contains("{w}") {
                requests.push(ask(route.method, &route.at_worker("a", "work", &bad)));
            }
            for request in requests {
                let request = match route.body {
                    Some(body) => request.json(body),
                    None => request,
                };
                assert_eq!(door.refused(request).await, invalid, "{route:?} {name:?}");
            }
        }
    }
    let list = door.json(get("/api/sheds"), 200).await;
    assert_eq!(list["sheds"].as_array().unwrap().len(), 1);
    assert!(!canary.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_in_a_body_are_refused() {
    let door = Door::with_shed().await;
    let canary = door.test.dir().join("canary");
    door.json(post("/api/sheds/a/sessions", r#"{"name":"work"}"#), 201).await;
    let invalid = (400, "invalid-name".to_owned());
    let mut names = hostile(canary.to_str().unwrap());
    names.push(String::new());
    for name in names {
        let body = serde_json::json!({ "name": name }).to_string();
        for request in [
            post("/api/sheds", &body),
            post("/api/sheds?wait=true", &body),
            post("/api/sheds/a/sessions", &body),
            ask("PATCH", "/api/sheds/a/sessions/work").json(&body),
        ] {
            assert_eq!(door.refused(request).await, invalid, "{name:?}");
        }
        let inside = serde_json::json!({ "argv": ["true"], "session": name }).to_string();
        assert_eq!(door.refused(post("/api/sheds/a/exec", &inside)).await, invalid, "{name:?}");
        let sheds = serde_json::json!({ "name": "t", "scope": "read", "sheds": [name] });
        assert_eq!(
            door.refused(post("/api/tokens", &sheds.to_string())).await,
            invalid,
            "{name:?}"
        );
    }
    let list = door.json(get("/api/sheds"), 200).await;
    assert_eq!(list["sheds"].as_array().unwrap().len(), 1);
    let sessions = door.json(get("/api/sessions"), 200).await;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    assert!(!canary.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_name_has_no_route() {
    let door = Door::with_shed().await;
    let none = (404, "route-not-found".to_owned());
    for path in ["/api/sheds/", "/api/sheds/a/sessions/", "/api/keys/", "//api/sheds"] {
        assert_eq!(door.refused(get(path)).await, none, "{path}");
    }
    let invalid = (400, "invalid-name".to_owned());
    for path in ["/api/sheds//sessions", "/api/sheds//logs", "/api/sheds/a/sessions//output"] {
        assert_eq!(door.refused(get(path)).await, invalid, "{path}");
    }
    // Not even UTF-8.
    let refused = door.refused(get("/api/sheds/%FF")).await;
    assert_eq!(refused, (400, "invalid-request".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_ports_and_ids_are_refused() {
    let door = Door::with_shed().await;
    for port in ["x", "-1", "65536", "0x50", "80%20", "%00"] {
        let refused = door.refused(get(&format!("/api/sheds/a/forward/{port}"))).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{port}");
    }
    for number in ["x", "-1", "1.5", "18446744073709551616", "%00", "..%2F1"] {
        let path = format!("/api/sheds/a/sessions/work/checkpoints/{number}");
        let refused = door.refused(get(&path)).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{number}");
    }
    for id in ["none", "%00", "'%20or%201=1", "..", &"a".repeat(5_000)] {
        for kind in ["keys", "tokens"] {
            let refused = door.refused(ask("DELETE", &format!("/api/{kind}/{id}"))).await;
            assert_eq!(refused, (404, "not-found".to_owned()), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_other_fields_is_only_text() {
    let door = Door::with_shed().await;
    let canary = door.test.dir().join("canary");
    let evil = format!("#(touch {0}) $(touch {0}) `touch {0}`", canary.display());
    let session = serde_json::json!({ "name": "work", "command": ["cat"], "env": { "X": evil } });
    door.json(post("/api/sheds/a/sessions", &session.to_string()), 201).await;
    let input = serde_json::json!({ "text": evil, "enter": true }).to_string();
    assert_eq!(door.ask(post("/api/sheds/a/sessions/work/input", &input)).await.status, 204);
    eventually("the text", async || {
        let output = door.json(get("/api/sheds/a/sessions/work/output"), 200).await;
        let shown = output["output"].as_str().unwrap().replace('\n', "");
        shown.contains(&evil).then_some(())
    })
    .await;
    for body in [
        r#"{"name":"b","image":"-x"}"#,
        r#"{"name":"b","image":"a b"}"#,
        r#"{"name":"b","repo":"ext::sh -c id"}"#,
        r#"{"name":"b","repo":"--upload-pack=id"}"#,
        r#"{"name":"b","env":{"A B":"x"}}"#,
    ] {
        let refused = door.refused(post("/api/sheds", body)).await;
        assert_eq!(refused, (400, "invalid-request".to_owned()), "{body}");
    }
    assert!(!canary.exists());
}
