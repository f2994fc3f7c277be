//! What somebody without credentials can do: on canaries of the operator, who can do all that to them.

use super::attempts::{By, There, Tries};
use super::canary::Canary;
use super::checks::Check;
use super::table::{Findings, Told, Verdict};
use crate::storage::error::StoreError;
use crate::storage::tag::RetentionTag;

pub(super) struct Stage<'a> {
    pub(super) anonymous: Tries<'a>,
    pub(super) operator: Tries<'a>,
    /// Folder of the canaries.
    pub(super) folder: String,
}

impl Stage<'_> {
    fn canary(&self, name: &str) -> Canary {
        Canary::new(format!("{}{name}", self.folder), Some(RetentionTag::Video))
    }

    /// Without credentials, and then as the operator, on a canary of its own each.
    async fn both<'s, F, E>(&'s self, name: &str, attempt: F) -> Told
    where
        F: Fn(Tries<'s>, There) -> E,
        E: Future<Output = Result<bool, StoreError>>,
    {
        let it = self.operator.leaves(self.canary(&format!("{name}-theirs"))).await?;
        let had_effect = attempt(self.anonymous, it).await?;
        let it = self.operator.leaves(self.canary(&format!("{name}-ours"))).await?;
        Ok(Verdict::refused(had_effect, attempt(self.operator, it).await?))
    }

    pub(super) async fn run(&self, findings: &mut Findings) {
        let get = self.both("get", |by, it| async move { by.reads(&it.canary, None).await });
        findings.enter(Check::AnonymousCannotGet, get).await;
        let get = self
            .both("get-version", |by, it| async move { by.reads(&it.canary, Some(&it.version.id)).await });
        findings.enter(Check::AnonymousCannotGetVersion, get).await;
        let list = self.both("list", |by, it| async move { by.lists(&it.canary.key).await });
        findings.enter(Check::AnonymousCannotList, list).await;
        let list =
            self.both("list-versions", |by, it| async move { by.lists_versions(&it.canary.key).await });
        findings.enter(Check::AnonymousCannotListVersions, list).await;
        findings
            .enter(Check::AnonymousCannotPut, async {
                let had_effect = self.anonymous.puts(&self.canary("put-theirs")).await?;
                let control = self.operator.puts(&self.canary("put-ours")).await?;
                Ok(Verdict::refused(had_effect, control))
            })
            .await;
        let delete = self.both("delete", |by, it| async move { by.deletes(&it.canary).await });
        findings.enter(Check::AnonymousCannotDelete, delete).await;
        let delete = self
            .both("delete-version", |by, it| async move { by.deletes_version(&it.version, By::Id).await });
        findings.enter(Check::AnonymousCannotDeleteVersion, delete).await;
    }
}
