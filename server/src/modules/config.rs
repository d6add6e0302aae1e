//! tmp
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct StreamManagement { pub ack: bool, pub resume_timeout: u32 }
impl StreamManagement { pub fn buffer_max(&self)->usize{100} pub fn ack_freq(&self)->u32{1} }
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Empty {}
