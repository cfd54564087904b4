//! Try-out: serves shed `a` on a port, for the key given.
use shed_api::access::NewKey;
use shed_ssh::*;
#[tokio::main]
async fn main() {
    let test = shed_testing::TestApp::start().await;
    test.shed("a").await;
    let args: Vec<String> = std::env::args().collect();
    let line = std::fs::read_to_string(&args[1]).unwrap();
    test.app
        .credentials()
        .add_key(
            &test.admin,
            NewKey {
                name: "k".into(),
                public_key: line,
                scope: shed_api::Scope::Admin,
                sheds: vec![],
            },
        )
        .await
        .unwrap();
    let patch =
        shed_api::shed::PatchShed { allow_agent_forwarding: Some(true), ..Default::default() };
    test.app.patch(&test.admin, &"a".parse().unwrap(), patch).await.unwrap();
    let key = HostKey::load_or_create(&test.dir().join("hk")).unwrap();
    let mut server = SshServer::new(test.app.clone(), &key, Options::default());
    let addr = server.bind(args[2].parse().unwrap()).await.unwrap();
    println!("{addr} {}", test.dir().display());
    let run = tokio::spawn(server.run());
    tokio::signal::ctrl_c().await.unwrap();
    test.app.close().await;
    run.await.unwrap();
}
