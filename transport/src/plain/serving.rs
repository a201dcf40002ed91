//! Plain RTP transports, as the server makes them.

use std::net::SocketAddr;

use lenscast_media::Ssrc;
use lenscast_router::{
    ConsumerId, ConsumerParameters, EncodingParameters, HeaderExtensions, Layers, Priority, ProducerId,
    ProducerParameters, ReceivedExtensions, TransportId,
};
use rand::{Rng as _, RngExt};

use super::sockets::{PlainSockets, receive};
use super::{
    ConnectPlainTransportError, ConsumePlainError, CreatePlainTransportError, CreatedPlainTransport, PlainConsumer,
    PlainConsumerOptions, PlainProducer, PlainSetup, PlainTransportOptions,
};
use crate::purpose::published;
use crate::{TransportServer, srtp};

impl TransportServer {
    /// Makes a plain RTP transport. What befalls it is told as what befalls sessions: [`SessionState::Published`] when the
    /// first packet of its peer has been accepted, [`SessionState::Connected`] when it has a peer, and
    /// [`SessionState::Closed`] in the end.
    ///
    /// [`SessionState::Published`]: crate::SessionState::Published
    /// [`SessionState::Connected`]: crate::SessionState::Connected
    /// [`SessionState::Closed`]: crate::SessionState::Closed
    ///
    /// # Errors
    ///
    /// If its address cannot be bound, its keys cannot be used, its streams contradict each other, or no more sessions are
    /// allowed.
    pub async fn create_plain_transport(
        &self,
        options: PlainTransportOptions,
    ) -> Result<CreatedPlainTransport, CreatePlainTransportError> {
        let PlainTransportOptions { listen, remote, rtcp_mux, srtp, produce, silence } = options;
        for (position, stream) in produce.iter().enumerate() {
            if produce[..position].iter().any(|other| other.payload_type == stream.payload_type) {
                return Err(CreatePlainTransportError::PayloadType(stream.payload_type));
            }
        }
        let profile = srtp.as_ref().map(|srtp| srtp.profile);
        let keys = srtp.map(|srtp| srtp::master_keys(srtp.profile, &srtp.local, &srtp.remote)).transpose()?;
        let bind_error = |(address, error)| CreatePlainTransportError::Bind { address, error };
        let sockets = PlainSockets::bind(listen, !rtcp_mux).map_err(bind_error)?;
        let here = |error| CreatePlainTransportError::Bind { address: listen, error };
        let rtp = sockets.rtp.local_addr().map_err(here)?;
        let rtcp = sockets.rtcp.as_ref().map(std::net::UdpSocket::local_addr).transpose().map_err(here)?;
        let read = sockets.try_clone().map_err(here)?;

        let producers: Vec<_> = produce.iter().map(|stream| (ProducerId(self.new_id()), parameters(stream))).collect();
        let (tracks, catalogued) = (published(&producers), producers.clone());
        let (id, worker) = (TransportId(self.new_id()), self.next_home());
        if !self.directory.admit(id, worker.index(), self.config.max_sessions) {
            return Err(CreatePlainTransportError::Full(self.config.max_sessions));
        }
        // Until it is made nobody else would take it out again.
        let admitted = Admitted { server: self, id, made: false };
        let source = Ssrc(self.random.lock().next_u32());
        let setup = PlainSetup { sockets, srtp: keys, profile, source, silence };
        let peer = worker.port.downgrade(worker.default_router());
        let made = worker.port.call(move |hub, wire, now| {
            hub.create_plain(now, id, setup, producers, remote, wire)?;
            let receiving = receive(id, read, peer);
            receiving.map(|receiving| hub.read_plain(id, receiving)).map_err(|error| {
                hub.close_session(now, id, crate::CloseCause::Shutdown, wire);
                CreatePlainTransportError::Bind { address: listen, error }
            })
        });
        made.await.map_err(|_| CreatePlainTransportError::Stopping)??;
        admitted.keep();
        self.catalog.tidy(&self.directory);
        for (producer, parameters) in catalogued {
            self.catalog.add(producer, parameters, Some(id));
        }
        Ok(CreatedPlainTransport { id, rtp, rtcp, producers: tracks })
    }

    /// Names the peer of a plain transport that has none: what it consumes is sent there from now on.
    ///
    /// # Errors
    ///
    /// If there is no such transport, it has a peer, or nothing can be sent there.
    pub async fn connect_plain_transport(
        &self,
        id: TransportId,
        remote: SocketAddr,
    ) -> Result<(), ConnectPlainTransportError> {
        let unknown = ConnectPlainTransportError::Unknown(id);
        let worker = self.directory.worker_of(id).ok_or(unknown)?;
        let connected =
            self.workers()[worker].port.call(move |hub, wire, now| hub.connect_plain(now, id, remote, wire));
        connected.await.map_err(|_| unknown)?
    }

    /// Sends a stream to the peer of a plain transport: its best layer, with sender reports. What is lost is not sent
    /// again; the peer may ask for key frames.
    ///
    /// # Errors
    ///
    /// If there is no such transport or stream, or another stream of the transport has this source.
    pub async fn consume_plain(
        &self,
        id: TransportId,
        options: PlainConsumerOptions,
    ) -> Result<PlainConsumer, ConsumePlainError> {
        let unknown = ConsumePlainError::Unknown(id);
        let worker = self.directory.worker_of(id).ok_or(unknown)?;
        let consumer = ConsumerId(self.new_id());
        let parameters = {
            let mut random = self.random.lock();
            ConsumerParameters {
                id: consumer,
                transport: id,
                ssrc: options.ssrc.unwrap_or_else(|| Ssrc(random.next_u32())),
                payload_type: options.payload_type,
                rtx: None,
                extensions: HeaderExtensions::default(),
                cname: format!("{:016x}", random.next_u64()),
                initial_sequence: random.random_range(0..1 << 15),
                initial_rtx_sequence: 0,
                timestamp_offset: random.next_u32(),
                preferred_layers: Layers::HIGHEST,
                priority: Priority::default(),
                paused: false,
            }
        };
        let (producer, ssrc) = (options.producer, parameters.ssrc);
        let made = self.workers()[worker]
            .port
            .call(move |hub, wire, now| hub.consume_plain(now, id, producer, parameters, wire));
        made.await.map_err(|_| unknown)??;
        Ok(PlainConsumer { id: consumer, ssrc })
    }
}

/// A place among the sessions, given up unless it is kept.
struct Admitted<'a> {
    server: &'a TransportServer,
    id: TransportId,
    made: bool,
}

impl Admitted<'_> {
    fn keep(mut self) {
        self.made = true;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.made
            && let Some(worker) = self.server.directory.worker_of(self.id)
        {
            let id = self.id;
            self.server.directory.remove(id);
            // Whoever asked has stopped waiting: it may be there all the same.
            self.server.workers()[worker].port.release(move |hub, wire, now| {
                hub.close_session(now, id, crate::CloseCause::Requested, wire);
            });
        }
    }
}

fn parameters(stream: &PlainProducer) -> ProducerParameters {
    ProducerParameters {
        codec: stream.codec,
        clock_rate: stream.codec.clock_rate(),
        encodings: vec![EncodingParameters { ssrc: stream.ssrc, ..EncodingParameters::default() }],
        temporal_layers: 1,
        payload_type: Some(stream.payload_type),
        rtx_payload_type: None,
        mid: None,
        returns_reference_times: false,
        extensions: ReceivedExtensions::default(),
    }
}
