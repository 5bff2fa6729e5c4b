//! The rules of a client, against a fake of whoever keeps the keys and the real local KMS.

mod encrypting;
mod fake;
mod keys;
mod usage;
