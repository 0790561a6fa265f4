//! The way from the host's loopback into a network namespace: sockets stay in the namespace of the thread that made them.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// The bridge has no loss: what does not answer soon is not there. It is the dial timeout of the tests' clients, whose connection
/// to this end stands at once: what a Service gives them of lost members costs them this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that wait to be dialled; more wait in the kernel.
const DIALS_MAX: usize = 64;

type Dial = oneshot::Sender<std::io::Result<std::net::TcpStream>>;

/// Serves until killed.
///
/// # Errors
/// The address is taken, or the namespace is not there.
pub async fn serve(listen: SocketAddr, namespace: &str, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    let path = format!("/run/netns/{namespace}");
    let file = std::fs::File::open(&path).with_context(|| format!("can't open {path}"))?;
    let (dials, mut waiting) = mpsc::channel::<Dial>(DIALS_MAX);
    let (moved, is_moved) = oneshot::channel();
    std::thread::spawn(move || {
        let result = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        let failed = result.is_err();
        let _ = moved.send(result);
        while let (false, Some(dial)) = (failed, waiting.blocking_recv()) {
            let _ = dial.send(std::net::TcpStream::connect_timeout(&to, CONNECT_TIMEOUT));
        }
    });
    is_moved.await?.with_context(|| format!("can't enter {path}"))?;
    loop {
        let (mut near, _) = listener.accept().await?;
        let dials = dials.clone();
        tokio::spawn(async move {
            let (dial, dialled) = oneshot::channel();
            if dials.send(dial).await.is_err() {
                return;
            }
            let Ok(Ok(far)) = dialled.await else { return };
            if far.set_nonblocking(true).is_ok()
                && let Ok(mut far) = TcpStream::from_std(far)
            {
                // One end closing is how connections end.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
