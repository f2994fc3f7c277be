use jiff::Timestamp;

use super::*;
use crate::controllers::testing;
use crate::wire::RejectedConfig;

#[test]
fn recorder_lags_until_it_loads_the_latest_config() {
    let status = testing::recorder_status("new", Timestamp::UNIX_EPOCH, Vec::new());
    let good = ShardReply { shard: 0, status: Ok(status) };
    assert_eq!(describe_lagging(std::slice::from_ref(&good), "new"), None);
    assert!(describe_lagging(std::slice::from_ref(&good), "newer").unwrap().contains("does not follow"));
    let rejecting = ShardReply {
        status: good.status.map(|status| RecorderStatus {
            refused: Some(RejectedConfig { revision: Some("newer".into()), message: "too new".into() }),
            ..status
        }),
        shard: 1,
    };
    let message = describe_lagging(std::slice::from_ref(&rejecting), "newer").unwrap();
    assert_eq!(message, "recorder 1 rejects its configuration: too new");
    assert_eq!(describe_lagging(std::slice::from_ref(&rejecting), "new"), None);
    let partly = ShardReply {
        status: rejecting.status.map(|status| RecorderStatus { revision: "newer".into(), ..status }),
        shard: 1,
    };
    let message = describe_lagging(&[partly], "newer").unwrap();
    assert_eq!(message, "recorder 1 rejects a part of its configuration: too new");
    let without_address = ShardReply { shard: 0, status: Err(RecorderStatusError::NoAddress) };
    assert!(describe_lagging(&[without_address], "new").is_some());
}
