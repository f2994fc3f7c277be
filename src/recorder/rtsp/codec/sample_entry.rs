//! Sample entries of a file with parameter sets in the samples too (ISO/IEC 14496-15: `avc3`, `hev1`).
