//! What somebody without credentials can do: on canaries of the operator, who can do all that to them.

use super::actor::{Actor, DeleteMethod, WrittenCanary};
use super::canary::Canary;
use super::checks::Check;
use super::table::{ConformanceFindings, Verdict, VerdictResult};
use crate::rules::recording::tag::RetentionTag;
use crate::storage::s3::error::StoreError;

pub(crate) struct AnonymousStage<'a> {
    pub(crate) anonymous: Actor<'a>,
    pub(crate) operator: Actor<'a>,
    pub(crate) folder: String,
}

impl AnonymousStage<'_> {
    fn canary(&self, name: &str) -> Canary {
        Canary::new(format!("{}{name}", self.folder), Some(RetentionTag::Video))
    }

    /// Without credentials, and then as the operator, on a canary of its own each.
    async fn compare_with_operator<'s, F, E>(&'s self, name: &str, attempt: F) -> VerdictResult
    where
        F: Fn(Actor<'s>, WrittenCanary) -> E,
        E: Future<Output = Result<bool, StoreError>>,
    {
        let it = self.operator.create_canary(self.canary(&format!("{name}-theirs"))).await?;
        let had_effect = attempt(self.anonymous, it).await?;
        let it = self.operator.create_canary(self.canary(&format!("{name}-ours"))).await?;
        Ok(Verdict::from_attempt(had_effect, attempt(self.operator, it).await?))
    }

    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) {
        let get =
            self.compare_with_operator("get", |by, it| async move { by.can_read(&it.canary, None).await });
        findings.record(Check::AnonymousCannotGet, get).await;
        let get = self.compare_with_operator("get-version", |by, it| async move {
            by.can_read(&it.canary, Some(&it.version.id)).await
        });
        findings.record(Check::AnonymousCannotGetVersion, get).await;
        let list =
            self.compare_with_operator("list", |by, it| async move { by.can_list(&it.canary.key).await });
        findings.record(Check::AnonymousCannotList, list).await;
        let list = self.compare_with_operator("list-versions", |by, it| async move {
            by.can_list_versions(&it.canary.key).await
        });
        findings.record(Check::AnonymousCannotListVersions, list).await;
        findings
            .record(Check::AnonymousCannotPut, async {
                let had_effect = self.anonymous.can_put(&self.canary("put-theirs")).await?;
                let control = self.operator.can_put(&self.canary("put-ours")).await?;
                Ok(Verdict::from_attempt(had_effect, control))
            })
            .await;
        let delete =
            self.compare_with_operator("delete", |by, it| async move { by.can_delete(&it.canary).await });
        findings.record(Check::AnonymousCannotDelete, delete).await;
        let delete = self.compare_with_operator("delete-version", |by, it| async move {
            by.can_delete_version(&it.version, DeleteMethod::Id).await
        });
        findings.record(Check::AnonymousCannotDeleteVersion, delete).await;
    }
}
