//! The bucket's configuration, read back, equals the documents committed under `tests/expected/`.
use toezicht::storage::Trials;

use super::scene::Scene;
use crate::support::settings::S3Server;

async fn look(server: S3Server) {
    let scene = Scene::new(server, "expected");
    let begin = std::time::Instant::now();
    let enforced = scene.enforce(Trials::Run).await.unwrap();
    eprintln!("{:?} {enforced:#?}", begin.elapsed());
    eprintln!("{}", scene.policy().await.unwrap());
    let begin = std::time::Instant::now();
    let again = scene.enforce(Trials::Keep).await.unwrap();
    eprintln!("{:?}", begin.elapsed());
    assert!(again.changed.is_empty());
    eprintln!("{:?}", scene.versions("").await);
}

#[tokio::test]
async fn first() {
    look(S3Server::first()).await;
}

#[tokio::test]
async fn second() {
    look(S3Server::second()).await;
}
