use super::*;
use crate::rules::Class;
use crate::storage::s3::objects::MAX_OBJECT_BYTES;

/// Extends an entry again and again with the maximum number of the longest names.
#[test]
fn entry_stays_below_maximum_object_size() {
    let now = Timestamp::UNIX_EPOCH;
    let spec = |round: usize| -> IncidentHoldSpec {
        let name = |number: usize| format!("{round:03}-{number:0>249}");
        serde_json::from_value(serde_json::json!({
            "siteRef": {"name": "s"}, "purpose": "p".repeat(63), "reference": "r".repeat(63),
            "window": {"from": now, "until": now}, "cameras": (0..256).map(name).collect::<Vec<_>>(),
        }))
        .unwrap()
    };
    let mut entry = LedgerEntry::new("1".into(), "n".repeat(63), "h".repeat(253), &spec(0), now);
    for round in 0..9 {
        let before = entry.clone();
        entry = entry.extended(&spec(round), now).merged(&before);
        assert!(serde_json::to_vec_pretty(&entry).unwrap().len() <= MAX_OBJECT_BYTES, "{round}");
        let covers = |camera: &String| entry.scope.includes_source(Class::Video, camera);
        assert!(spec(round).cameras.iter().all(covers));
    }
    assert_eq!(
        entry.scope.cameras,
        CameraSelector::All,
        "all cameras once the names exceed the maximum size"
    );
}
