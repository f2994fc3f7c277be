//! Prevents a password in clear. The RTSP client answers every challenge. So over plain RTSP, the recorder first asks for the
//! camera's challenge on a connection without credentials. Only a camera that asks for a digest gets the client with the
//! password.
//!
//! An attacker on the line who changes the second answer can still request the password in clear. Only `rtsps://` prevents
//! that.

use http_auth::PasswordClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CameraAddress, StreamError};

/// Limit of the head of an answer.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Returns an error if the camera accepts the password only in clear.
pub async fn require_digest(address: &CameraAddress) -> Result<(), StreamError> {
    let mut camera = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let request = format!(
        "DESCRIBE {} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\nUser-Agent: toezicht/{}\r\n\r\n",
        address.url,
        env!("CARGO_PKG_VERSION"),
    );
    camera.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > MAX_HEAD_BYTES {
            return Err(StreamError::Malformed);
        }
        if camera.read_buf(&mut head).await? == 0 {
            return Err(StreamError::Ended);
        }
    }
    evaluate_challenge(&String::from_utf8_lossy(&head))
}

/// Evaluates the head of an answer as the client does: it joins the challenges, and takes the first digest that it
/// supports, else a basic challenge.
fn evaluate_challenge(head: &str) -> Result<(), StreamError> {
    let (first, rest) = head.split_once("\r\n").ok_or(StreamError::Malformed)?;
    if first.split(' ').nth(1) != Some("401") {
        // Without a challenge the client sends no password, and it reports other errors.
        return Ok(());
    }
    let challenges: Vec<&str> = rest
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("www-authenticate"))
        .map(|(_, value)| value.trim())
        .collect();
    match PasswordClient::try_from(challenges.join(", ").as_str()) {
        Ok(PasswordClient::Digest(_)) => Ok(()),
        Ok(PasswordClient::Basic(_)) => Err(StreamError::BasicAuth),
        Ok(_) | Err(_) => Err(StreamError::Unauthorized),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    const DIGEST: &str = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"f00\"\r\n";
    const UNKNOWN: &str = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"f00\", algorithm=X-9\r\n";
    const BASIC: &str = "www-authenticate: Basic realm=\"cam\"\r\n";

    fn category(status: &str, headers: &str) -> Option<&'static str> {
        let error = evaluate_challenge(&format!("RTSP/1.0 {status}\r\nCSeq: 1\r\n{headers}\r\n")).err();
        error.map(|error| error.category())
    }

    #[test]
    fn only_digest_challenge_is_accepted() {
        assert_eq!(category("401 Unauthorized", DIGEST), None);
        assert_eq!(category("401 Unauthorized", &format!("{BASIC}{DIGEST}")), None);
        assert_eq!(category("401 Unauthorized", BASIC), Some("basic_auth"));
        assert_eq!(category("401 Unauthorized", &format!("{UNKNOWN}{BASIC}")), Some("basic_auth"));
        assert_eq!(category("401 Unauthorized", ""), Some("unauthorized"));
        assert_eq!(category("200 OK", ""), None);
    }
}
