//! Logging in.

use axum::http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use axum::response::Response;

use super::script::{Seen, Server, answer};
use super::{descriptor_of, read, repository};
use crate::image::Error;
use crate::registry::client;

const BLOB: &[u8] = b"the blob";
/// `me:secret` in base64.
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn ask_for_token(seen: &Seen) -> Response {
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"reg\"",
        seen.headers["host"].to_str().unwrap()
    );
    answer(401, &[(WWW_AUTHENTICATE, &realm)], "")
}

/// A registry that gives numbered tokens to `me:secret` and takes those from `first_good` on.
fn with_tokens(seen: &Seen, first_good: usize) -> Response {
    let is_token_request = seen.path.starts_with("/token");
    let number = seen
        .header(AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer t")?.parse::<usize>().ok());
    match (is_token_request, number) {
        (true, _) if seen.header(AUTHORIZATION) != Some(BASIC) => answer(401, &[], ""),
        (true, _) => answer(
            200,
            &[],
            format!("{{\"token\": \"t{}\", \"expires_in\": 300}}", seen.count),
        ),
        (false, Some(number)) if number >= first_good => answer(200, &[], BLOB),
        (false, _) => ask_for_token(seen),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let server = Server::start(|seen| with_tokens(seen, 0)).await;
    let repository = repository(&server.host, Some(("me", "secret")));
    let descriptor = descriptor_of(BLOB);
    for _ in 0..2 {
        assert_eq!(read(repository.blob(&descriptor).await).await.unwrap(), BLOB);
    }
    let blob = format!("GET /v2/team/app/blobs/{}", descriptor.digest());
    let token = "GET /token?scope=repository%3Ateam%2Fapp%3Apull&client_id=slipway&service=reg".to_owned();
    assert_eq!(server.trace(), [blob.clone(), token, blob.clone(), blob]);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    // Tokens are numbered by the requests before them: t1 is refused, t3 is taken.
    let server = Server::start(|seen| with_tokens(seen, if seen.count < 3 { 0 } else { 2 })).await;
    let repository = repository(&server.host, Some(("me", "secret")));
    let descriptor = descriptor_of(BLOB);
    for _ in 0..2 {
        assert_eq!(read(repository.blob(&descriptor).await).await.unwrap(), BLOB);
    }
    assert_eq!(
        server
            .trace()
            .iter()
            .filter(|line| line.contains("/token"))
            .count(),
        2
    );

    let never = Server::start(|seen| with_tokens(seen, usize::MAX)).await;
    let error = super::repository(&never.host, Some(("me", "secret")))
        .blob(&descriptor)
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(never.trace().len(), 3, "asked, token, asked again, given up");
}

#[tokio::test]
async fn a_token_that_is_forbidden_later_is_renewed_once() {
    // The first token is forbidden from the second use on.
    let script = |seen: &Seen| match seen.count {
        3 => answer(403, &[], ""),
        _ => with_tokens(seen, 0),
    };
    let server = Server::start(script).await;
    let repository = repository(&server.host, Some(("me", "secret")));
    let descriptor = descriptor_of(BLOB);
    for _ in 0..2 {
        assert_eq!(read(repository.blob(&descriptor).await).await.unwrap(), BLOB);
    }
    let tokens = |server: &Server| {
        let trace = server.trace();
        trace.iter().filter(|line| line.contains("/token")).count()
    };
    assert_eq!(tokens(&server), 2);

    // Forbidden for good: asked, token, asked, given up; and the next request is no longer.
    let never = Server::start(|seen: &Seen| match seen.header(AUTHORIZATION) {
        Some(header) if header.starts_with("Bearer") => answer(403, &[], ""),
        _ => with_tokens(seen, 0),
    })
    .await;
    let repository = super::repository(&never.host, Some(("me", "secret")));
    for count in 1..=2 {
        let error = repository.blob(&descriptor).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
        assert_eq!((never.trace().len(), tokens(&never)), (3 * count, count));
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_with_a_hint_and_not_shown() {
    let server = Server::start(|seen| with_tokens(seen, 0)).await;
    let repository = repository(&server.host, Some(("me", "wrong-one")));
    let error = repository.blob(&descriptor_of(BLOB)).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }) && !error.is_retryable());
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(&format!("docker login {}", server.host)) && text.contains("--creds"),
        "{text}"
    );
    assert!(text.contains("\"me\"") && !text.contains("wrong-one"), "{text}");
}

#[tokio::test]
async fn basic_authentication() {
    let script = |seen: &Seen| match seen.header(AUTHORIZATION) {
        Some(BASIC) => answer(200, &[], BLOB),
        _ => answer(401, &[(WWW_AUTHENTICATE, "Basic realm=\"x\"")], ""),
    };
    let server = Server::start(script).await;
    let descriptor = descriptor_of(BLOB);
    let good = repository(&server.host, Some(("me", "secret")));
    assert_eq!(read(good.blob(&descriptor).await).await.unwrap(), BLOB);
    let bad = repository(&server.host, Some(("me", "other")));
    assert!(matches!(
        bad.blob(&descriptor).await,
        Err(Error::Unauthorized { .. })
    ));
}

#[tokio::test]
async fn a_service_that_knows_only_post_gets_post() {
    let script = |seen: &Seen| match (seen.method.as_str(), seen.path.starts_with("/token")) {
        ("GET", true) => answer(405, &[], ""),
        ("POST", true) => {
            let form = String::from_utf8(seen.body.to_vec()).unwrap();
            assert!(
                form.contains("grant_type=password&username=me&password=secret"),
                "{form}"
            );
            answer(200, &[], "{\"access_token\": \"t\"}")
        }
        _ if seen.header(AUTHORIZATION) == Some("Bearer t") => answer(200, &[], BLOB),
        _ => ask_for_token(seen),
    };
    let server = Server::start(script).await;
    let repository = repository(&server.host, Some(("me", "secret")));
    assert_eq!(
        read(repository.blob(&descriptor_of(BLOB)).await).await.unwrap(),
        BLOB
    );
}

#[tokio::test]
async fn authorization_is_not_carried_to_another_host() {
    let store = Server::start(|_| answer(200, &[], BLOB)).await;
    let address = format!("http://{}/signed?key=1", store.host);
    let script = move |seen: &Seen| match seen.header(AUTHORIZATION) {
        Some(BASIC) => answer(307, &[(LOCATION, &address)], ""),
        _ => answer(401, &[(WWW_AUTHENTICATE, "Basic")], ""),
    };
    let registry = Server::start(script).await;
    let repository = repository(&registry.host, Some(("me", "secret")));
    assert_eq!(
        read(repository.blob(&descriptor_of(BLOB)).await).await.unwrap(),
        BLOB
    );
    let [seen] = store.seen().try_into().unwrap();
    assert_eq!(
        (seen.path.as_str(), seen.header(AUTHORIZATION)),
        ("/signed?key=1", None)
    );
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_recognised() {
    let server = Server::start(|_| answer(200, &[], BLOB)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.get(format!("https://{}/v2/", server.host));
    let error = client::execute(request, "x", "reg.example", client::ANSWER_TIMEOUT)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::PlainHttp { registry } if registry == "reg.example"),
        "{error:?}"
    );
    assert!(error.to_string().contains("--plain-http"));
}
