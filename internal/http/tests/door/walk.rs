//! Every route with every kind of credentials.

use shed_api::Scope;

use crate::routes::{Needs, ROUTES, Route};
use crate::support::{Ask, Door, Reply, ask, get};

impl Route {
    fn ask(&self, token: Option<&str>) -> Ask {
        let mut ask = ask(self.method, &self.at("nowhere", "work"));
        if let Some(body) = self.body {
            ask = ask.json(body);
        }
        match token {
            Some(token) => ask.token(token),
            None => ask,
        }
    }

    fn check(&self, who: &str, reply: &Reply, expected: (u16, &str)) {
        let code = if reply.status >= 400 { reply.problem().1 } else { String::new() };
        assert_eq!((reply.status, code.as_str()), expected, "{who}: {self:?}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_only_liveness_and_documentation_are_served() {
    let door = Door::start().await;
    let garbage = format!("shed_{}", "A".repeat(43));
    let expired = door.expired_token().await;
    let long = "x".repeat(5_000);
    let tokens = [None, Some(garbage.as_str()), Some(expired.as_str()), Some(""), Some(&long)];
    for (route, place) in ROUTES.iter().zip(1..) {
        for token in tokens {
            // Each route from an address of its own, since guesses are counted by address.
            let reply = door.ask_tcp(route.ask(token).from(place)).await;
            if route.needs == Needs::Nothing {
                route.check("nobody", &reply, route.answer);
            } else {
                route.check("nobody", &reply, (401, "unauthorized"));
                assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            }
        }
    }
    for path in ["/", "/api", "/api/nothing", "/api/sheds/", "/api/sheds/a/b/c/d"] {
        assert_eq!(door.ask_tcp(get(path)).await.problem(), (401, "unauthorized".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_allows_its_routes_and_no_others() {
    for scope in [Scope::Read, Scope::Drive, Scope::Admin] {
        let door = Door::start().await;
        let token = door.token(scope, &[]).await;
        for route in ROUTES {
            let reply = door.ask_tcp(route.ask(Some(&token))).await;
            let may = match route.needs {
                Needs::Nothing => true,
                Needs::Token(needed) => scope >= needed,
            };
            let expected = if may { route.answer } else { (403, "forbidden") };
            route.check(scope.as_str(), &reply, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_socket_needs_no_token() {
    let door = Door::start().await;
    for route in ROUTES {
        route.check("owner", &door.ask(route.ask(None)).await, route.answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_shed_sees_no_other() {
    let door = Door::with_shed().await;
    door.test.shed("b").await;
    let token = door.token(Scope::Admin, &["a"]).await;
    let reply = door.ask_tcp(get("/api/sheds").token(&token)).await.json();
    assert_eq!(reply["sheds"].as_array().unwrap().len(), 1);
    assert_eq!(reply["sheds"][0]["name"], "a");
    assert_eq!(door.ask_tcp(get("/api/sheds/a").token(&token)).await.status, 200);
    for route in ROUTES.iter().filter(|route| route.path.contains("{n}")) {
        let mut request = ask(route.method, &route.at("b", "work")).token(&token);
        if let Some(body) = route.body {
            request = request.json(body);
        }
        route.check("a's", &door.ask_tcp(request).await, (404, "shed-not-found"));
    }
    for path in ["/api/keys", "/api/tokens"] {
        let reply = door.ask_tcp(get(path).token(&token)).await;
        assert_eq!(reply.problem(), (403, "forbidden".to_owned()));
    }
    let events = get("/api/events").header("accept", "application/json").token(&token);
    let events = door.ask_tcp(events).await.json();
    let of: Vec<_> = events["events"].as_array().unwrap().iter().map(|row| &row["shed"]).collect();
    assert!(!of.is_empty() && of.iter().all(|shed| *shed == "a"), "{of:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheme_is_bearer_in_any_case() {
    let door = Door::start().await;
    let token = door.token(Scope::Read, &[]).await;
    for (header, status) in [
        (format!("bearer {token}"), 200),
        (format!("BEARER   {token}"), 200),
        (format!("Basic {token}"), 401),
        (token.clone(), 401),
        (format!("Bearer {token}x"), 401),
    ] {
        let reply = door.ask_tcp(get("/api/info").header("authorization", &header)).await;
        assert_eq!(reply.status, status, "{header}");
    }
}
