//! Talking to a visitor through pingora's session.

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;

use super::way::OnTheWay;
use super::{INVALID_CHUNK, TOO_LARGE, is_interim};
use crate::answer::{Answer, Body};
use crate::fields::ProxyError;
use crate::fill::body::Cut;
use crate::fill::flight::Failure;
use crate::state::Node;
use crate::upstream::send::SendError;

/// The status of the final response that was written, if one was.
pub(super) fn final_written(session: &ServerSession) -> Option<StatusCode> {
    session
        .response_written()
        .map(|response| response.status)
        .filter(|status| !is_interim(*status))
}

/// Status and words for an error of pingora's; None where nobody is left to hear.
pub(super) fn explain(node: &Node, error: &Error, way: Option<&OnTheWay>) -> Option<Failure> {
    if *error.esource() == ErrorSource::Downstream {
        let (status, error) = explain_body(error.etype())?;
        return Some(Failure {
            status,
            error,
            no_answer: None,
        });
    }
    let target = way.map_or_else(String::new, |way| way.target_name(node));
    let failure = way.and_then(|way| way.failure);
    let (status, proxy_error) = match failure {
        Some(failure) => (failure.status(), failure.proxy_error(&target)),
        None if *error.esource() == ErrorSource::Upstream => (
            StatusCode::BAD_GATEWAY,
            ProxyError::new("destination_unavailable", "no way to the content is up"),
        ),
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            ProxyError::new("proxy_internal_error", "the request could not be passed on"),
        ),
    };
    Some(Failure {
        status,
        error: proxy_error,
        no_answer: failure.and_then(SendError::no_answer),
    })
}

/// What to say of a request body that is not as it should be; None where the
/// visitor has left.
fn explain_body(error: &ErrorType) -> Option<(StatusCode, ProxyError)> {
    let (status, details) = match error {
        error if error == &TOO_LARGE => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request body is larger than this node allows",
        ),
        error if error == &INVALID_CHUNK => (
            StatusCode::BAD_REQUEST,
            "the chunks of the request body are malformed",
        ),
        ErrorType::ReadTimedout => (
            StatusCode::REQUEST_TIMEOUT,
            "the request body did not arrive in time",
        ),
        _ => return None,
    };
    Some((status, ProxyError::new("http_request_error", details)))
}

/// Replaces the fields of a response, and nothing else of it.
pub(super) fn replace_fields(response: &mut ResponseHeader, fields: &HeaderMap) -> Result<()> {
    let mut replaced = ResponseHeader::build(response.status, Some(fields.len()))?;
    replaced.set_version(response.version);
    for (name, value) in fields {
        replaced.append_header(name.clone(), value.clone())?;
    }
    *response = replaced;
    Ok(())
}

/// Writes an answer through pingora's session. Returns the body bytes sent; an
/// error where the client will see that the answer is not whole.
pub(super) async fn write_answer(
    session: &mut ServerSession,
    node: &str,
    answer: &mut Answer,
) -> Result<u64> {
    answer.leave_out_body(&session.req_header().method);
    let (status, fields) = answer.build(node);
    let mut header = ResponseHeader::build(status, Some(fields.len()))?;
    for (name, value) in fields.iter() {
        header.append_header(name.clone(), value.clone())?;
    }
    let unknown_length = matches!(&answer.body, Body::Growing { length: None, .. });
    if unknown_length && !session.is_http2() {
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    session.write_response_header(Box::new(header)).await?;
    let sent = match &mut answer.body {
        Body::Absent => 0,
        Body::Whole(body) => {
            let sent = body.len() as u64;
            session.write_response_body(body.clone(), true).await?;
            return Ok(sent);
        }
        Body::Growing {
            reader,
            skip,
            length,
        } => {
            let mut cut = Cut::new(*skip, *length);
            let mut sent = 0;
            while !cut.is_over() {
                match reader.next().await {
                    Ok(Some(chunk)) => {
                        let chunk = cut.wanted(chunk);
                        if !chunk.is_empty() {
                            sent += chunk.len() as u64;
                            session.write_response_body(chunk, false).await?;
                        }
                    }
                    Ok(None) if !cut.misses_something() => break,
                    Ok(None) | Err(_) => {
                        session.shutdown_with_reason(h2::Reason::INTERNAL_ERROR);
                        let broken = ErrorType::ConnectionClosed;
                        let mut error = Error::explain(broken, "the body broke off");
                        error.as_up();
                        return Err(error);
                    }
                }
            }
            sent
        }
    };
    session.write_response_body(Bytes::new(), true).await?;
    Ok(sent)
}
