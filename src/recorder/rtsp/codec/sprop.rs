//! Parameter sets in a description (RFC 6184, section 8.1; RFC 7798, section 7.1).
