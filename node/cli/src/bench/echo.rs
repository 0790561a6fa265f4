//! The ceiling of a store behind stock tonic: a server that answers Put and Range at once, with nothing behind it.

use std::net::SocketAddr;

use anyhow::Result;
use quorate_api::etcdserverpb::kv_server::{Kv, KvServer};
use quorate_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use quorate_api::mvccpb::KeyValue;
use tonic::{Request, Response, Status};

/// Bytes of the value that every key has here.
const VALUE_BYTES: usize = 256;

/// Answers at once.
#[derive(Debug)]
struct Echo;

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: u64::MAX, member_id: u64::MAX, revision: 1 << 30, raft_term: 2 })
}

#[tonic::async_trait]
impl Kv for Echo {
    type RangeStreamStream = futures::stream::Empty<Result<RangeStreamResponse, Status>>;

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
        let kv = KeyValue {
            key: request.into_inner().key,
            create_revision: 1 << 30,
            mod_revision: 1 << 30,
            version: 1,
            value: VALUE[..].into(),
            lease: 0,
        };
        Ok(Response::new(RangeResponse { header: header(), kvs: vec![kv], more: false, count: 1 }))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse { header: header(), prev_kv: None }))
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not echoed"))
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("not echoed"))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(Status::unimplemented("not echoed"))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("not echoed"))
    }
}

/// Serves until the process is ended.
///
/// # Errors
/// The address is taken.
pub(super) async fn serve(listen: SocketAddr) -> Result<()> {
    Ok(tonic::transport::Server::builder().add_service(KvServer::new(Echo)).serve(listen).await?)
}
