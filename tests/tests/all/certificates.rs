//! Certificates, and what they rest on.

mod certificate;
mod proof;
