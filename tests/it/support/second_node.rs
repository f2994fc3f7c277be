//! The second node of the test bed, which tests lose.

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::tools::{run, script};

/// Name of the node.
pub const SECOND: &str = "second";
/// Name of the node that is always there.
const FIRST: &str = "node";
/// Label of the nodes on which recorders of a test may run. Its value is that of the test.
const ALLOWED: &str = "toezicht.dev/test";

/// The running node. One test at a time uses it.
pub struct SecondNode {
    nodes: Api<Node>,
    test: String,
}

impl SecondNode {
    /// Starts the node. It allows the recorders of `test`.
    pub async fn start(client: &Client, test: &str) -> Self {
        let node = Self { nodes: Api::all(client.clone()), test: test.to_owned() };
        node.command("up").await;
        node.label(SECOND, Some(test)).await;
        node
    }

    /// Returns the settings of recorders that run where the test allows it.
    pub fn recorder_settings(&self) -> Value {
        json!({
            "nodeSelector": {ALLOWED: self.test},
            "tolerations": [{"key": "toezicht.dev/second-node", "operator": "Exists"}],
        })
    }

    /// Allows the recorders of the test on the first node too, or not any more.
    pub async fn allow_first(&self, is_allowed: bool) {
        self.label(FIRST, is_allowed.then_some(self.test.as_str())).await;
    }

    async fn label(&self, node: &str, value: Option<&str>) {
        let patch = json!({"metadata": {"labels": {ALLOWED: value}}});
        self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Cuts the node's power.
    pub async fn kill(&self) {
        self.command("kill").await;
    }

    /// Switches the node on again, with its disk.
    pub async fn restart(&self) {
        self.command("up").await;
    }

    /// Cuts the node from the API server, the operator and other pods, but neither from the store nor from cameras.
    pub async fn cut(&self) {
        self.command("cut").await;
    }

    /// Ends [`Self::cut`].
    pub async fn join(&self) {
        self.command("join").await;
    }

    /// Removes the node. Only tests that passed call this, so that a failed one can be inspected.
    pub async fn remove(self) {
        self.allow_first(false).await;
        self.command("down").await;
    }

    async fn command(&self, command: &str) {
        run(&script("bed"), &["second", command], None).await;
    }
}
