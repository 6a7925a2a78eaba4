//! The way of a replica to the API server, which can be spoilt: nothing passes, answers get lost, everything is slow, all
//! connections break.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything.
    Open,
    /// Nothing, and nobody is told: what is sent arrives when the way is open again.
    Cut,
    /// Requests pass, answers do not.
    Deaf,
    /// Everything, each piece after a pause.
    Slow(Duration),
}

/// The way of one replica.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    breaks: watch::Sender<u64>,
}

impl Relay {
    /// A way to `target`, a host and port, that begins at a free port of `host`.
    pub async fn new(host: &str, target: &str) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (way, breaks) = (watch::Sender::new(Way::Open), watch::Sender::new(0));
        let (target, ways, broken) = (target.to_owned(), way.subscribe(), breaks.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, mut ways, mut broken) = (target.clone(), ways.clone(), broken.clone());
                broken.borrow_and_update();
                tokio::spawn(async move {
                    let passes = async {
                        if ways.wait_for(|way| *way != Way::Cut).await.is_err() {
                            return;
                        }
                        let Ok(server) = TcpStream::connect(&target).await else { return };
                        let (from_client, to_client) = client.into_split();
                        let (from_server, to_server) = server.into_split();
                        let requests = pump(from_client, to_server, ways.clone(), true);
                        let answers = pump(from_server, to_client, ways.clone(), false);
                        // One half closed: the other is of no use to an HTTP client.
                        tokio::select! {
                            () = requests => {}
                            () = answers => {}
                        }
                    };
                    tokio::select! {
                        () = passes => {}
                        _ = broken.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, way, breaks })
    }

    /// From now on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Ends all connections.
    pub fn break_all(&self) {
        self.breaks.send_modify(|count| *count += 1);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut ways: watch::Receiver<Way>, requests: bool) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let passes = |way: &Way| match way {
            Way::Open | Way::Slow(_) => true,
            Way::Cut => false,
            Way::Deaf => requests,
        };
        let way = match ways.wait_for(passes).await {
            Ok(way) => *way,
            Err(_) => return,
        };
        if let Way::Slow(pause) = way {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
