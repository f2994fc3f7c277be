//! Partitions of ARNs. AWS's sovereign and national clouds have ARNs of their own, and reject those of another cloud.

/// The partition of AWS's public regions, which other stores use, too.
const PUBLIC: &str = "aws";
/// AWS's regions of other partitions, by the prefix of their names.
const BY_REGION: [(&str, &str); 8] = [
    ("cn-north-1", "aws-cn"),
    ("cn-northwest-1", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-iso-", "aws-iso"),
];

/// Returns the partition of `principal`'s ARN; of a bare name, that of `region`.
pub fn of<'a>(principal: &'a str, region: &str) -> &'a str {
    let mut parts = principal.split(':');
    if let (Some("arn"), Some(partition)) = (parts.next(), parts.next().filter(|it| !it.is_empty())) {
        return partition;
    }
    let known = BY_REGION.iter().find(|(begin, _)| region.starts_with(begin));
    known.map_or(PUBLIC, |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_decides_partition_and_bare_name_uses_region() {
        for (principal, region, partition) in [
            ("arn:aws:iam::1:user/o", "us-gov-west-1", "aws"),
            ("arn:aws-eusc:iam::1:role/o", "eusc-de-east-1", "aws-eusc"),
            ("arn:aws-cn:iam::1:user/o", "x", "aws-cn"),
            ("operator", "eusc-de-east-1", "aws-eusc"),
            ("operator", "us-gov-east-1", "aws-us-gov"),
            ("operator", "cn-northwest-1", "aws-cn"),
            ("operator", "us-isob-east-1", "aws-iso-b"),
            ("operator", "eu-central-1", "aws"),
            ("operator", "us-east-1", "aws"),
            ("operator", "nl-1", "aws"),
            ("", "", "aws"),
        ] {
            assert_eq!(of(principal, region), partition, "{principal} {region}");
        }
    }
}
