//! Rules of Site.

use super::CelRule;
use super::common::has_no_offset;

/// Rules of the whole object.
pub(crate) const SITE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
    message: "the name must be at most 40 lowercase letters, digits and '-', beginning with a letter, \
                  because names of pods and services contain it; choose another name",
}];

pub(crate) const SITE_SPEC: &[CelRule] = &[
    CelRule {
        field: ".managers",
        cel: "self.managers.all(a, self.managers.exists_one(b, b.subject == a.subject))",
        message: "article 3.1: a manager is listed twice; remove the second entry with the same subject",
    },
    CelRule {
        field: ".managers",
        cel: "self.managers.all(m, !has(m.principal) || (m.principal != self.storage.operator.principal \
              && m.principal != self.storage.recorder.principal))",
        message: "article 3.2: a machine cannot be a manager; give the manager a principal of their own, not \
                  the operator's or the recorder's",
    },
    CelRule {
        field: ".storage.auditor.principal",
        cel: "!has(self.storage.auditor) || (self.storage.auditor.principal != self.storage.operator.principal \
              && self.storage.auditor.principal != self.storage.recorder.principal \
              && self.managers.all(m, !has(m.principal) || m.principal != self.storage.auditor.principal))",
        message: "article 3: the auditor shares a principal with the operator, the recorder or a manager, and \
                  the auditor's restrictions would apply to them too; give the auditor a principal of its own",
    },
];

pub(crate) const SUSPENSION: &[CelRule] = &[CelRule {
    field: ".until",
    cel: concat!(
        has_no_offset!("self.from"),
        " || ",
        has_no_offset!("self.until"),
        " || timestamp(self.from) < timestamp(self.until)"
    ),
    message: "article 5: the suspension does not end after it begins; set until later than from",
}];

pub(crate) const STORAGE: &[CelRule] = &[
    CelRule {
        field: ".bucket",
        cel: "self.bucket == oldSelf.bucket",
        message: "the bucket is immutable because it contains the recordings and holds; create another Site \
                  for another bucket",
    },
    CelRule {
        field: ".endpoint",
        cel: "has(self.endpoint) == has(oldSelf.endpoint) && (!has(self.endpoint) || self.endpoint == oldSelf.endpoint)",
        message: "the endpoint cannot be changed, added or removed because its store contains the recordings \
                  and holds; create another Site for another store",
    },
    CelRule {
        field: ".bucket",
        cel: "self.pathStyle || !self.bucket.contains('.')",
        message: "TLS cannot verify a bucket name with '.' as a host name; set pathStyle to true, or choose a \
                  name without '.'",
    },
    CelRule {
        field: ".caRef",
        cel: "!has(self.caRef) || (has(self.endpoint) && self.endpoint.startsWith('https://'))",
        message: "a certificate authority verifies an https:// endpoint only; set such an endpoint, or remove \
                  caRef",
    },
    CelRule {
        field: ".recorder.principal",
        cel: "self.operator.principal != self.recorder.principal",
        message: "article 3.2: the recorder can only add and the operator cannot read, so they must be two \
                  identities; give the recorder a principal of its own",
    },
    CelRule {
        field: ".recorder.credentialsRef",
        cel: "!has(self.operator.credentialsRef) || !has(self.recorder.credentialsRef) \
              || self.operator.credentialsRef.name != self.recorder.credentialsRef.name",
        message: "article 3.2: the recorder can only add and the operator cannot read, so they must be two \
                  identities; give the recorder a Secret of its own",
    },
    CelRule {
        field: ".decision",
        cel: "has(self.decision) || (self.adoptionPolicy != 'TakeOver' \
              && self.retentionEnforcement != 'OperatorOnly' && !self.allowUnprotected)",
        message: "article 9: adoptionPolicy TakeOver, retentionEnforcement OperatorOnly and allowUnprotected \
                  are exceptions that require a decision; set decision with by, date and reference, or remove \
                  the exception",
    },
];

pub(crate) const IDENTITY: &[CelRule] = &[
    CelRule {
        field: ".credentialsRef",
        cel: "has(self.credentialsRef) != (has(self.workloadIdentity) && self.workloadIdentity)",
        message: "an identity uses either keys in a Secret or workload identity; set credentialsRef, or set \
                  workloadIdentity to true, but not both",
    },
    CelRule {
        field: ".principal",
        cel: "!(has(self.workloadIdentity) && self.workloadIdentity) || self.principal.matches('^arn:[a-z0-9-]+:iam::[^:]*:role/.+$')",
        message: "workload identity requires the ARN of a role as principal; write it such as \
                  arn:aws:iam::123456789012:role/name, or use credentialsRef",
    },
];

pub(crate) const BUCKET: &[CelRule] = &[
    CelRule {
        field: "",
        cel: "self.matches('^[a-z0-9]([a-z0-9-]|[.][a-z0-9])*[a-z0-9]$') && !self.contains('-.')",
        message: "a bucket's name has 3 to 63 lowercase letters, digits, '-' and single '.', with a letter or \
                  digit at both ends; choose such a name",
    },
    CelRule {
        field: "",
        cel: "!self.matches('^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$') && !self.startsWith('xn--') \
              && !self.startsWith('sthree-') && !self.endsWith('-s3alias') && !self.endsWith('--ol-s3') \
              && !self.endsWith('.mrap') && !self.endsWith('--x-s3') && !self.endsWith('--table-s3')",
        message: "a bucket's name cannot be an IP address or have an affix that S3 reserves (xn--, sthree-, \
                  -s3alias, --ol-s3, .mrap, --x-s3, --table-s3); choose another name",
    },
];

pub(crate) const ENDPOINT: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|[[][0-9a-f:.]+[]])(:[1-9][0-9]{0,4})?$') \
          && !self.matches(':(6553[6-9]|655[4-9][0-9]|65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4})$')",
    message: "an endpoint is an origin in lowercase, without user, path, query or final '/'; write it \
                  such as https://s3.example.nl or https://s3.example.nl:9000",
}];

pub(crate) const REGION: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$')",
    message: "a region has letters, digits, '-' and '_' only; write the region of the store's signatures \
                  in the same case, such as eu-central-1 or RegionOne",
}];

pub(crate) const SEGMENT_DURATION: &[CelRule] = &[CelRule {
    field: "",
    cel: "duration(self) >= duration('2s') && duration(self) <= duration('10m')",
    message: "a segment must last 2s to 10m, because shorter ones need too many requests and longer ones \
                  arrive too late; set such a length",
}];

pub(crate) const RECORDER_SETTINGS: &[CelRule] = &[
    CelRule {
        field: ".spool.storageClassName",
        cel: "!has(self.spool) || !has(self.spool.maxLoss) || has(self.spool.storageClassName)",
        message: "an emptyDir can lose all recordings that wait for the store, which is more than maxLoss; set \
                  storageClassName, or omit maxLoss",
    },
    CelRule {
        field: ".spool.maxLoss",
        cel: "!has(self.spool) || !has(self.spool.maxLoss) \
              || duration(self.spool.maxLoss) >= duration(self.segmentDuration) + duration('30s')",
        message: "a loss of power can take the open segment and 30s of each camera; set maxLoss to at least \
                  segmentDuration and 30s, or a shorter segmentDuration",
    },
];

pub(crate) const SPOOL_SIZE: &[CelRule] = &[CelRule {
    field: "",
    cel: "isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0",
    message: "the size must be a Kubernetes quantity of at least 64Mi; set it such as 20Gi",
}];

pub(crate) const STORAGE_CLASS: &[CelRule] = super::OBJECT_NAME;
