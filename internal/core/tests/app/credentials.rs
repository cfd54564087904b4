//! Keys and their use.

use shed_api::access::NewKey;
use shed_api::shed::CreateShed;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_an_older_version_stored_is_removed() {
    let mut test = TestApp::start().await;
    let create = CreateShed { name: "a".to_owned(), no_start: true, ..CreateShed::default() };
    test.app.sheds().create(&test.admin, create).await.unwrap();
    let name = "a".parse().unwrap();
    test.app.sheds().created(&test.admin, &name).await.unwrap();
    test.reopen_after(|dir| {
        let dir = dir.to_owned();
        // The test's own runtime must not block, and its store is asynchronous.
        let write = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let store = shed_store::Store::open(&dir).unwrap();
                let mut row = store.sheds().await.unwrap().remove(0);
                row.spec.repo = Some("https://me:p4ss/word@host/x".to_owned());
                store.set_spec(row.name, row.spec, None).await.unwrap();
            });
        };
        std::thread::spawn(write).join().unwrap();
    })
    .await;
    let shown = test.app.sheds().get(&test.admin, &name).unwrap();
    assert_eq!(shown.repo.as_deref(), Some("https://…@host/x"));
}
