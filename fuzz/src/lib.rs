//! What the fuzz targets do. Each target is a function from bytes, so that the committed corpora also run as ordinary
//! tests.
//!
//! `cargo +nightly fuzz run TARGET` from the workspace's top; the targets are `messages`, `tcp_server`, `tcp_client`,
//! `ring_frames`, `ring_segment` (a peer that scribbles), `shm_session` (either
//! end of a session against a peer that does), `stored` (every decoder of what is kept), `journal` (its decoders, and directories tampered with) and `store` (the store against the model). Frames bear checksums that no fuzzer guesses, so the TCP targets read their input as a
//! list of steps and seal the frames themselves; raw bytes are one of the steps.
#![forbid(unsafe_code)]

pub mod journal;
pub mod messages;
pub mod ring_frames;
pub mod ring_segment;
pub mod shm_session;
mod steps;
pub mod store;
pub mod stored;
pub mod tcp_client;
pub mod tcp_server;

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn run_corpus(target: &str, run: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", dir.display());
        for file in files {
            run(&std::fs::read(file).unwrap());
        }
    }

    #[test]
    fn the_corpora_pass() {
        run_corpus("journal", super::journal::run);
        run_corpus("messages", super::messages::run);
        run_corpus("ring_frames", super::ring_frames::run);
        run_corpus("ring_segment", super::ring_segment::run);
        run_corpus("shm_session", super::shm_session::run);
        run_corpus("store", super::store::run);
        run_corpus("stored", super::stored::run);
        run_corpus("tcp_client", super::tcp_client::run);
        run_corpus("tcp_server", super::tcp_server::run);
    }
}
