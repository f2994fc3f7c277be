//! Rules of Site.

use super::CelRule;

/// Rules of the whole object.
pub(crate) const SITE: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
    message: "a Site's name is part of the names of its pods and services: at most 40 lowercase letters, digits and \
              '-', beginning with a letter; choose such a name",
}];

pub(crate) const SITE_SPEC: &[CelRule] = &[
    CelRule {
        field: ".managers",
        cel: "self.managers.all(a, self.managers.exists_one(b, b.subject == a.subject))",
        message: "article 3.1: each manager is listed once; remove the second entry with the same subject",
    },
    CelRule {
        field: ".managers",
        cel: "self.managers.all(m, !has(m.principal) || (m.principal != self.storage.operator.principal \
              && m.principal != self.storage.recorder.principal))",
        message: "article 3.2: no machine may watch: a manager's principal is a person's own, not the operator's or \
                  the recorder's",
    },
    CelRule {
        field: ".storage.auditor.principal",
        cel: "!has(self.storage.auditor) || (self.storage.auditor.principal != self.storage.operator.principal \
              && self.storage.auditor.principal != self.storage.recorder.principal \
              && self.managers.all(m, !has(m.principal) || m.principal != self.storage.auditor.principal))",
        message: "article 3: an auditor may read no recording and change nothing, which would stop anybody else of that \
                  name: give it a principal of its own, not the operator's, the recorder's or a manager's",
    },
];

pub(crate) const SUSPENSION: &[CelRule] = &[CelRule {
    field: ".until",
    cel: "self.from < self.until",
    message: "article 5: a suspension ends after it begins: set until later than from",
}];

pub(crate) const STORAGE: &[CelRule] = &[
    CelRule {
        field: ".bucket",
        cel: "self.bucket == oldSelf.bucket",
        message: "recordings and holds live in the bucket: it cannot be changed; create another Site for another \
                  bucket",
    },
    CelRule {
        field: ".endpoint",
        cel: "has(self.endpoint) == has(oldSelf.endpoint) && (!has(self.endpoint) || self.endpoint == oldSelf.endpoint)",
        message: "recordings and holds live at the endpoint: it cannot be changed, added or removed; create another \
                  Site for another store",
    },
    CelRule {
        field: ".bucket",
        cel: "self.pathStyle || !self.bucket.contains('.')",
        message: "a bucket with a '.' cannot be verified as a host name over TLS: set pathStyle to true, or choose a \
                  name without",
    },
    CelRule {
        field: ".caRef",
        cel: "!has(self.caRef) || (has(self.endpoint) && self.endpoint.startsWith('https://'))",
        message: "a certificate authority verifies an https:// endpoint only; use one, or leave caRef out",
    },
    CelRule {
        field: ".recorder.principal",
        cel: "self.operator.principal != self.recorder.principal",
        message: "article 3.2: the recorder may only add, the operator may not look: they are two identities; give the \
                  recorder a principal of its own",
    },
    CelRule {
        field: ".recorder.credentialsRef",
        cel: "!has(self.operator.credentialsRef) || !has(self.recorder.credentialsRef) \
              || self.operator.credentialsRef.name != self.recorder.credentialsRef.name",
        message: "article 3.2: the recorder may only add, the operator may not look: they are two identities; give the \
                  recorder a Secret of its own",
    },
    CelRule {
        field: ".decision",
        cel: "has(self.decision) || (self.adoptionPolicy != 'TakeOver' \
              && self.retentionEnforcement != 'OperatorOnly' && !self.allowUnprotected)",
        message: "article 9: adoptionPolicy TakeOver, retentionEnforcement OperatorOnly and allowUnprotected are \
                  exceptions that somebody must decide: set decision with by, date and reference, or drop the exception",
    },
];

pub(crate) const IDENTITY: &[CelRule] = &[
    CelRule {
        field: ".credentialsRef",
        cel: "has(self.credentialsRef) != (has(self.workloadIdentity) && self.workloadIdentity)",
        message: "an identity has keys in a Secret or workload identity, not both or neither: set credentialsRef, or \
                  workloadIdentity to true",
    },
    CelRule {
        field: ".principal",
        cel: "!(has(self.workloadIdentity) && self.workloadIdentity) || self.principal.matches('^arn:[a-z0-9-]+:iam::[^:]*:role/.+$')",
        message: "workload identity assumes the role that the principal names: write a role's ARN, such as \
                  arn:aws:iam::123456789012:role/name, or use credentialsRef",
    },
];

pub(crate) const BUCKET: &[CelRule] = &[
    CelRule {
        field: "",
        cel: "self.matches('^[a-z0-9]([a-z0-9-]|[.][a-z0-9])*[a-z0-9]$') && !self.contains('-.')",
        message: "a bucket's name has 3 to 63 lowercase letters, digits, '-' and single '.', with a letter or digit at \
                  both ends; choose such a name",
    },
    CelRule {
        field: "",
        cel: "!self.matches('^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$') && !self.startsWith('xn--') \
              && !self.startsWith('sthree-') && !self.endsWith('-s3alias') && !self.endsWith('--ol-s3') \
              && !self.endsWith('.mrap') && !self.endsWith('--x-s3') && !self.endsWith('--table-s3')",
        message: "a bucket's name is not an IP address and has none of the affixes that S3 keeps for itself (xn--, \
                  sthree-, -s3alias, --ol-s3, .mrap, --x-s3, --table-s3); choose another",
    },
];

pub(crate) const ENDPOINT: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|[[][0-9a-f:.]+[]])(:[1-9][0-9]{0,4})?$') \
          && !self.matches(':(6553[6-9]|655[4-9][0-9]|65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4})$')",
    message: "an endpoint is an origin only, in lowercase, such as https://s3.example.nl or https://s3.example.nl:9000; \
              write it without user, path, query or final '/'",
}];

pub(crate) const REGION: &[CelRule] = &[CelRule {
    field: "",
    cel: "self.matches('^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$')",
    message: "a region has letters, digits, '-' and '_' only, such as eu-central-1 or RegionOne; write the region of the \
              store's signatures, in its capitals",
}];

pub(crate) const SEGMENT_DURATION: &[CelRule] = &[CelRule {
    field: "",
    cel: "duration(self) >= duration('2s') && duration(self) <= duration('10m')",
    message: "a segment lasts 2s to 10m: shorter ones cost the store more requests than they save, and a longer one \
              comes too late; set such a length",
}];

pub(crate) const SPOOL_SIZE: &[CelRule] = &[CelRule {
    field: "",
    cel: "isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0",
    message: "a spool's size is a Kubernetes quantity of at least 64Mi, such as 20Gi; set one",
}];

pub(crate) const STORAGE_CLASS: &[CelRule] = super::OBJECT_NAME;
