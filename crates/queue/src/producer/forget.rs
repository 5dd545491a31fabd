//! What a server has forgotten when images are deleted.

use super::{CHUNK, Producer};
use crate::QueueError;
use imgsys_types::Digest;
use redis::cmd;

impl Producer {
    /// Has what workers keep of these images forgotten: nobody has them any more.
    pub async fn forget(&self, images: &[Digest]) -> Result<(), QueueError> {
        for chunk in images.chunks(CHUNK) {
            let mut forget = cmd("HDEL");
            forget.arg(self.keys().analyses());
            for image in chunk {
                forget.arg(image.to_string());
            }
            let forgotten = self.link.query::<u64>(&forget).await;
            forgotten.map_err(QueueError::unavailable("forget analyses"))?;
        }
        Ok(())
    }
}
