//! Telling people: what a notice says, and trying a channel out.

mod channels;
pub mod notice;

pub use channels::{ChannelView, TestView, channel_views, test_channels, test_outcome};
