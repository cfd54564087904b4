//! Keys and their use.

use shed_api::access::NewKey;
use shed_api::{Actor, Scope};
use shed_testing::TestApp;

/// Made with `ssh-keygen -t ed25519`.
const LINE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqyXfZSxQRzPoPYxmkOMjhBNZtCJfEDDlXnpfuqvQdE me@laptop";

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proven_key_counts_as_used() {
    let test = TestApp::start().await;
    let request = NewKey {
        name: "laptop".to_owned(),
        public_key: LINE.to_owned(),
        scope: Scope::Drive,
        sheds: Vec::new(),
    };
    let key = test.app.access().add_key(&test.admin, request).await.unwrap();
    let last_used =
        async || test.app.access().keys(&test.admin).await.unwrap().keys[0].last_used_at;
    assert!(test.app.access().knows_key(&key.fingerprint).await.unwrap());
    assert!(!test.app.access().knows_key("SHA256:other").await.unwrap());
    assert_eq!(last_used().await, None);
    let holder = test.app.access().key_holder(&key.fingerprint).await.unwrap().unwrap();
    assert_eq!((holder.actor, holder.scope), (Actor::Key("laptop".to_owned()), Scope::Drive));
    assert!(last_used().await.is_some());
}
