//! The door's own threads: a heavy statement competes with ingest for the processor, but not for its threads, and their
//! stacks are deep enough for the deepest statement that passes (`statements.rs`).

use tokio::runtime::{Builder, Handle, Runtime};

/// Reserved, not used: the pages of a stack are taken when they are touched.
const STACK_BYTES: usize = 32 << 20;

pub(super) struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Threads {
    pub(super) fn start(count: usize) -> std::io::Result<Threads> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count).thread_stack_size(STACK_BYTES).thread_name("query").enable_all();
        let runtime = builder.build()?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    /// Waiting for threads would block the caller's.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
