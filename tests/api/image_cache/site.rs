//! A site that serves images, and a loader that fetches them.

use super::*;

pub(super) const GEOMETRY: ImageGeometry = ImageGeometry::patches(32, 4_096, 1 << 22);

/// What a path answers, and the heads of the requests it has had.
#[derive(Default)]
pub(super) struct Site {
    answers: HashMap<&'static str, (u16, &'static str, Vec<u8>)>,
    pub(super) heads: Mutex<Vec<String>>,
}

impl Site {
    pub(super) fn requests(&self, path: &str) -> usize {
        let start = format!("GET {path} ");
        let heads = self.heads.lock().unwrap();
        heads.iter().filter(|head| head.starts_with(&start)).count()
    }
}

/// Serves a site; one that is asked with `If-None-Match: "v1"` answers 304 where it has an ETag.
pub(super) async fn serve(
    answers: &[(&'static str, u16, &'static str, Vec<u8>)],
) -> (String, Arc<Site>) {
    let answers = answers.iter().cloned();
    let site = Arc::new(Site {
        answers: answers
            .map(|(path, status, headers, body)| (path, (status, headers, body)))
            .collect(),
        heads: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let served = site.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let site = served.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                let n = socket.read(&mut request).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&request[..n]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/").to_string();
                let (status, headers, body) = &site.answers[path.as_str()];
                let same = headers.contains("etag") && head.contains("if-none-match: \"v1\"");
                site.heads.lock().unwrap().push(head);
                let (status, body) = if same {
                    (304, &[][..])
                } else {
                    (*status, &body[..])
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
            });
        }
    });
    (base, site)
}

pub(super) fn loader(change: impl FnOnce(&mut ImagesConfig)) -> (MediaLoader, Arc<Metrics>) {
    let mut limits = config().images;
    change(&mut limits);
    let metrics = Arc::new(Metrics::default());
    (MediaLoader::new(limits, metrics.clone()).unwrap(), metrics)
}

pub(super) async fn load(
    loader: &MediaLoader,
    owner: &str,
    url: &str,
) -> Result<[u8; 32], MediaError> {
    let image = ImageUrl {
        url: Bytes::copy_from_slice(url.as_bytes()),
        detail: Detail::Auto,
        param: "x".into(),
    };
    let found = loader
        .fetch(owner, vec![image], GEOMETRY, ImageCeiling::default())
        .await;
    found
        .map(|images| images[0].sha256())
        .map_err(|refused| refused.error)
}
