/*!
Standard output on a thread of its own, behind a bounded queue: a slow terminal
never holds up the reader, and what does not fit is counted, piece by piece.
*/

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use crate::view::Frames;

/// How often an idle writer looks whether its reader is gone.
const GONE_CHECK: Duration = Duration::from_secs(1);

/// Memory a writer keeps after a burst.
const KEEP_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Queue {
    pending: Vec<u8>,
    /// Bytes the writer took and has not yet written.
    under_way: usize,
    lost: u64,
    ended: bool,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.pending.len() + self.under_way
    }
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change to the queue is complete when its guard is dropped.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
enum State {
    Writing,
    Done,
    Failed(Arc<io::Error>),
}

/// The queue and its writer.
pub struct Output {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    limit: usize,
}

impl Output {
    /// Standard output, with at most `limit` bytes waiting for it.
    ///
    /// # Errors
    /// When standard output is closed, or no thread can be started.
    pub fn stdout(limit: usize) -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Self::start(File::from(stdout), limit)
    }

    /// Any file, with at most `limit` bytes waiting for it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(sink: impl Write + AsFd + Send + 'static, limit: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            more: Condvar::new(),
        });
        let (tell, state) = watch::channel(State::Writing);
        let writers = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                let result = write(sink, &writers);
                tell.send_replace(match result {
                    Ok(()) => State::Done,
                    Err(error) => State::Failed(Arc::new(error)),
                });
            })?;
        Ok(Self {
            shared,
            state,
            limit,
        })
    }

    /// Takes the pieces out of `frames` and queues them; those that do not fit are lost and counted.
    pub fn send(&self, frames: &mut Frames) {
        if frames.is_empty() {
            return;
        }
        let mut queue = self.shared.lock();
        let room = self.limit.saturating_sub(queue.waiting());
        let (bytes, lost) = frames.fitting(room);
        queue.pending.extend_from_slice(bytes);
        queue.lost += lost as u64;
        drop(queue);
        self.shared.more.notify_one();
        frames.clear();
    }

    /// Bytes there surely is room for: nobody else queues.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.shared.lock().waiting())
    }

    /// Queues bytes whether they fit or not: for the few that must come.
    pub fn insist(&self, bytes: &[u8]) {
        self.shared.lock().pending.extend_from_slice(bytes);
        self.shared.more.notify_one();
    }

    /// Pieces lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Returns when nothing can be written any more: closed pipe, full disk.
    pub async fn gone(&self) {
        let mut state = self.state.clone();
        let failed = state.wait_for(|state| matches!(state, State::Failed(_)));
        if failed.await.is_err() {
            // The writer ended well: it will never fail.
            std::future::pending::<()>().await;
        }
    }

    /// Returns when everything queued is written.
    ///
    /// # Errors
    /// What the writer met: `BrokenPipe` when the reader is gone.
    pub async fn finish(&self) -> io::Result<()> {
        self.shared.lock().ended = true;
        self.shared.more.notify_one();
        let mut state = self.state.clone();
        let end = state
            .wait_for(|state| !matches!(state, State::Writing))
            .await
            .map(|state| state.clone());
        match end {
            Ok(State::Failed(error)) => Err(io::Error::new(error.kind(), error)),
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the output thread panicked")),
        }
    }
}

/// The writer: takes what is pending, all at once, until the end.
fn write(mut sink: impl Write + AsFd, shared: &Shared) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        let mut queue = shared.lock();
        while queue.pending.is_empty() {
            if queue.ended {
                return sink.flush();
            }
            let (woken, timeout) = shared
                .more
                .wait_timeout(queue, GONE_CHECK)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() && reader_is_gone(sink.as_fd()) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        std::mem::swap(&mut chunk, &mut queue.pending);
        queue.under_way = chunk.len();
        drop(queue);
        sink.write_all(&chunk)?;
        chunk.clear();
        chunk.shrink_to(KEEP_BYTES);
        shared.lock().under_way = 0;
    }
}

/// Whether the other end of a pipe, socket or terminal was closed.
fn reader_is_gone(fd: BorrowedFd<'_>) -> bool {
    // No event is asked for: errors and hang-ups are reported always.
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && fds[0]
            .revents()
            .is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{self, ErrorKind, Read as _};
    use std::time::Duration;

    use super::Output;
    use crate::view::Frames;

    fn frames(lines: &[u8]) -> Frames {
        let mut frames = Frames::default();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(line);
                Ok(())
            };
            frames.add(write).unwrap();
        }
        frames
    }

    const LINE: &[u8] = b"0123456789abcde\n";

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .expect("within 30 seconds")
    }

    #[tokio::test]
    async fn everything_sent_is_written_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer, 1 << 20).unwrap();
        for number in 0..1000 {
            output.send(&mut frames(format!("{number}\n").as_bytes()));
        }
        soon(output.finish()).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("\n998\n999\n"));
        assert_eq!(output.lost(), 0);
    }

    #[tokio::test]
    async fn what_a_stuck_reader_has_no_room_for_is_counted_line_by_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        // The pipe holds 64 KiB, the queue 16 KiB: of 16,384 lines most must go.
        let output = Output::start(writer, 16 << 10).unwrap();
        let sent = 16_384;
        for _ in 0..sent / 64 {
            output.send(&mut frames(&LINE.repeat(64)));
        }
        assert!(output.lost() > 0);
        // More than the queue holds at its emptiest.
        assert!(output.room() < LINE.repeat(1025).len());
        output.insist(b"the end\n");
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        soon(output.finish()).await.unwrap();
        let text = reading.join().unwrap().unwrap();
        assert!(text.ends_with("\nthe end\n"));
        let arrived = text.lines().filter(|line| line.len() == 15).count();
        assert_eq!(arrived as u64 + output.lost(), sent);
        assert_eq!(text.lines().count(), arrived + 1, "only whole lines");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_noticed_without_writing() {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer, 1 << 20).unwrap();
        drop(reader);
        soon(output.gone()).await;
        let error = soon(output.finish()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Output::start(full, 1 << 20).unwrap();
        output.send(&mut frames(LINE));
        soon(output.gone()).await;
        let error = soon(output.finish()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
