//! As much of the Redis protocol as measuring a redis needs: one request in flight.

use bytes::{Buf, Bytes};
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longest reply line, in bytes.
const LINE_BYTES_MAX: u64 = 4096;
/// Largest value that is read, in bytes.
const VALUE_BYTES_MAX: usize = 512 << 20;

/// One connection.
#[derive(Debug)]
pub struct Resp {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    value: Vec<u8>,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Resp {
    /// Connects to `HOST:PORT`.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), line: Vec::new(), value: Vec::new() })
    }

    pub async fn set(&mut self, key: &str, value: &Bytes) -> io::Result<()> {
        self.send(&["SET", key], Some(value)).await?;
        match self.reply_line().await? {
            "+OK" => Ok(()),
            other => Err(broken(format!("SET was answered {other}"))),
        }
    }

    /// The value; `None` where there is none.
    pub async fn get(&mut self, key: &str) -> io::Result<Option<&[u8]>> {
        self.send(&["GET", key], None).await?;
        let header = self.reply_line().await?;
        if header == "$-1" {
            return Ok(None);
        }
        let len = header.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let len =
            len.filter(|len| *len <= VALUE_BYTES_MAX).ok_or_else(|| broken(format!("GET was answered {header}")))?;
        self.value.resize(len + 2, 0);
        self.stream.read_exact(&mut self.value).await?;
        match self.value.strip_suffix(b"\r\n") {
            Some(value) => Ok(Some(value)),
            None => Err(broken("a value does not end where its length says")),
        }
    }

    /// Deletes the key, whether or not it is there.
    pub async fn del(&mut self, key: &str) -> io::Result<()> {
        self.send(&["DEL", key], None).await?;
        match self.reply_line().await? {
            ":0" | ":1" => Ok(()),
            other => Err(broken(format!("DEL was answered {other}"))),
        }
    }

    /// Whether the key is there.
    pub async fn exists(&mut self, key: &str) -> io::Result<bool> {
        self.send(&["EXISTS", key], None).await?;
        match self.reply_line().await? {
            ":1" => Ok(true),
            ":0" => Ok(false),
            other => Err(broken(format!("EXISTS was answered {other}"))),
        }
    }

    async fn send(&mut self, words: &[&str], value: Option<&Bytes>) -> io::Result<()> {
        let mut head = format!("*{}\r\n", words.len() + usize::from(value.is_some())).into_bytes();
        for word in words {
            head.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let Some(value) = value else { return self.stream.write_all(&head).await };
        head.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
        // One vectored write, as a good client does, so that redis is not measured at a disadvantage.
        let mut all = Bytes::from(head).chain(value.clone()).chain(Bytes::from_static(b"\r\n"));
        self.stream.write_all_buf(&mut all).await
    }

    async fn reply_line(&mut self) -> io::Result<&str> {
        self.line.clear();
        let mut limited = AsyncReadExt::take(&mut self.stream, LINE_BYTES_MAX);
        limited.read_until(b'\n', &mut self.line).await?;
        let line = self.line.strip_suffix(b"\r\n").ok_or_else(|| broken("a reply has no end"))?;
        std::str::from_utf8(line).map_err(|_| broken("a reply is not text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers the first request on a socket with these bytes and closes.
    async fn answering(bytes: &'static [u8]) -> Resp {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            stream.write_all(bytes).await.unwrap();
        });
        Resp::connect(&address).await.unwrap()
    }

    #[tokio::test]
    async fn values_and_misses_are_read() {
        assert_eq!(answering(b"$5\r\nhe\r\no\r\n").await.get("k").await.unwrap(), Some(&b"he\r\no"[..]));
        assert_eq!(answering(b"$-1\r\n").await.get("k").await.unwrap(), None);
        answering(b"+OK\r\n").await.set("k", &Bytes::from_static(b"v")).await.unwrap();
    }

    #[tokio::test]
    async fn hostile_answers_are_errors() {
        for bytes in [
            &b"$99999999999\r\n"[..],
            b"$3\r\nabcdef",
            b"$x\r\n",
            b"-ERR no\r\n",
            b"",
            b"$5",
            b"\xff\xff\r\n",
            &[b'a'; 5000],
        ] {
            assert!(answering(bytes).await.get("k").await.is_err());
            assert!(answering(bytes).await.set("k", &Bytes::from_static(b"v")).await.is_err());
        }
    }
}
