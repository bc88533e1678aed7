#include "proxy/session.h"

#include "proxy/proxy.h"
#include "proxy/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	STREAM_WINDOW_BYTES = 1 << 20,
	SESSION_WINDOW_BYTES = 4 << 20,
	HEAD_BYTES = 16 << 10,		 /* names and values and 32 each: RFC 9113, section 6.5.2 */
	FRAME_BYTES = PROXY_PLAIN_BYTES, /* with its head, as sent, it is four records */
	FRAME_HEAD_BYTES = 9,
	RESETS_BURST = 10000,
	RESETS_PER_S = 1000, /* CVE-2023-44487; applications behind a node do reset */
};

/* ---- From the peer ------------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct tunnel *tunnel = context;
	(void)session;
	(void)frame;
	tunnel->head = (struct hbone_head){0};
	tunnel->head_bytes = 0;
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t value_len, uint8_t flags, void *context)
{
	struct tunnel *tunnel = context;
	(void)session;
	(void)frame;
	(void)flags;
	tunnel->head_bytes += name_len + value_len + 32;
	if (tunnel->head_bytes > HEAD_BYTES) {
		tunnel->side->on_nonsense(tunnel, "too many headers");
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	hbone_head_read(&tunnel->head, (const char *)name, name_len, (const char *)value, value_len);
	return 0;
}

/* RFC 9113, section 8.1.1: the stream is reset, and nobody hears of its headers. */
static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int error, void *context)
{
	struct tunnel *tunnel = context;
	(void)session;
	if (frame->hd.type == NGHTTP2_HEADERS)
		tunnel->side->on_nonsense(tunnel, nghttp2_strerror(error));
	return 0;
}

static void on_goaway(struct tunnel *tunnel)
{
	bool was_closing = tunnel->is_closing;
	tunnel_close(tunnel);
	/* The peer lets nothing new in: there is no need to warn it of the same. */
	if (!was_closing)
		tunnel->is_notified = true;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct tunnel *tunnel = context;
	int32_t id = frame->hd.stream_id;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		tunnel->side->on_head(tunnel, id, nghttp2_session_get_stream_user_data(session, id), &tunnel->head);
		break;
	case NGHTTP2_SETTINGS:
		tunnel->is_proven = true;
		tunnel->side->on_room(tunnel);
		break;
	case NGHTTP2_GOAWAY:
		on_goaway(tunnel);
		break;
	}
	struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
	if (stream && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		stream_on_peer_end(stream);
	return 0;
}

/* The connection's window opens at once: one application that does not read must not stall the others of its tunnel.
 * Only where all of them together hold too much, it opens as they read. */
void session_pay_owed(struct tunnel *tunnel)
{
	if (!tunnel->owed_bytes || tunnel->proxy->held_bytes >= PROXY_HELD_BYTES)
		return;
	nghttp2_session_consume_connection(tunnel->session, tunnel->owed_bytes);
	tunnel->owed_bytes = 0;
	tunnel_touch(tunnel);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *context)
{
	struct tunnel *tunnel = context;
	struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
	(void)flags;
	if (stream)
		stream_on_data(stream, data, len);
	tunnel->owed_bytes += (uint32_t)len;
	session_pay_owed(tunnel);
	return 0;
}

static int on_closed(nghttp2_session *session, int32_t id, uint32_t code, void *context)
{
	struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
	(void)context;
	if (stream)
		stream_on_closed(stream, code);
	return 0;
}

/* A request that waited for its turn when the peer went away: there is no stream of the session to tell. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *context)
{
	struct tunnel *tunnel = context;
	struct stream *stream;
	(void)session;
	(void)error;
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	TAILQ_FOREACH (stream, &tunnel->streams, tunnel_link)
		if (stream->id == frame->hd.stream_id) {
			stream_on_closed(stream, NGHTTP2_REFUSED_STREAM);
			break;
		}
	return 0;
}

/* RFC 9113, section 8.1: behind an answer that is all, the rest of what the peer has to say is not wanted. A GOAWAY
 * with an error is the session's own. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct tunnel *tunnel = context;
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
		tunnel->side->on_nonsense(tunnel, nghttp2_http2_strerror(frame->goaway.error_code));
	if (frame->hd.type == NGHTTP2_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM && !tunnel->side->is_client)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

int tunnel_digest(struct tunnel *tunnel, const uint8_t *data, size_t len)
{
	ssize_t r = nghttp2_session_mem_recv(tunnel->session, data, len);
	tunnel_touch(tunnel);
	if (r == (ssize_t)len)
		return 0;
	tunnel->side->on_nonsense(tunnel, r < 0 ? nghttp2_strerror((int)r) : "HTTP/2 that is none");
	return -EPROTO;
}

/* ---- To the peer --------------------------------------------------------------------------------- */

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t len, uint32_t *flags,
		       nghttp2_data_source *source, void *context)
{
	struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
	(void)source;
	(void)context;
	return stream ? stream_read(stream, buffer, len, flags) : NGHTTP2_ERR_DEFERRED;
}

static ssize_t on_frame_bytes(nghttp2_session *session, uint8_t type, int32_t id, int32_t session_window,
			      int32_t stream_window, uint32_t max_frame, void *context)
{
	(void)session;
	(void)type;
	(void)id;
	(void)session_window;
	(void)stream_window;
	(void)context;
	uint32_t whole_records = max_frame < FRAME_BYTES ? max_frame : FRAME_BYTES;
	return whole_records / PROXY_RECORD_BYTES * PROXY_RECORD_BYTES - FRAME_HEAD_BYTES;
}

static const nghttp2_data_provider provider = {.read_callback = on_read};

int tunnel_request(struct tunnel *tunnel, struct stream *stream, const struct hbone_request *request)
{
	int32_t id = nghttp2_submit_request(tunnel->session, NULL, request->headers, HBONE_HEADERS, &provider, stream);
	if (id < 0)
		return -EAGAIN;
	stream->id = id;
	tunnel_add(tunnel, stream);
	return 0;
}

int tunnel_respond(struct tunnel *tunnel, int32_t id, struct stream *stream, unsigned status)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", status);
	nghttp2_nv header = {.name = (uint8_t *)":status", .namelen = 7, .value = (uint8_t *)text, .valuelen = 3};
	int r = nghttp2_submit_response(tunnel->session, id, &header, 1, stream ? &provider : NULL);
	tunnel_touch(tunnel);
	return r ? -EPROTO : 0;
}

void tunnel_add(struct tunnel *tunnel, struct stream *stream)
{
	stream->tunnel = tunnel;
	TAILQ_INSERT_TAIL(&tunnel->streams, stream, tunnel_link);
	tunnel->stream_count++;
	if (!tunnel->side->is_client)
		nghttp2_session_set_stream_user_data(tunnel->session, stream->id, stream);
	tunnel_touch(tunnel);
}

void tunnel_remove(struct tunnel *tunnel, struct stream *stream)
{
	stream->tunnel = NULL;
	if (!stream->id) {
		TAILQ_REMOVE(&tunnel->waiting, stream, tunnel_link);
		tunnel->waiting_count--;
		return;
	}
	TAILQ_REMOVE(&tunnel->streams, stream, tunnel_link);
	tunnel->stream_count--;
	tunnel->used_ms = loop_now_ms();
	if (tunnel->state != TUNNEL_DEAD)
		nghttp2_session_set_stream_user_data(tunnel->session, stream->id, NULL);
	stream->id = 0;
	if (tunnel->is_closing)
		tunnel_touch(tunnel);
}

void tunnel_reset(struct tunnel *tunnel, int32_t id, uint32_t code)
{
	nghttp2_submit_rst_stream(tunnel->session, NGHTTP2_FLAG_NONE, id, code);
	tunnel_touch(tunnel);
}

void tunnel_resume(struct tunnel *tunnel, int32_t id)
{
	/* It fails where nothing was put off, and then there is nothing to resume. */
	nghttp2_session_resume_data(tunnel->session, id);
	tunnel_touch(tunnel);
}

void tunnel_consume(struct tunnel *tunnel, int32_t id, size_t len)
{
	nghttp2_session_consume_stream(tunnel->session, id, len);
	tunnel_touch(tunnel);
}

void session_say_goodbye(struct tunnel *tunnel)
{
	nghttp2_session_terminate_session(tunnel->session, NGHTTP2_NO_ERROR);
	tunnel_flush(tunnel);
	wire_say_goodbye(tunnel);
}

/* ---- The session --------------------------------------------------------------------------------- */

static int callbacks_create(nghttp2_session_callbacks **ret_callbacks)
{
	nghttp2_session_callbacks *callbacks;
	if (nghttp2_session_callbacks_new(&callbacks))
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_closed);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_bytes);
	*ret_callbacks = callbacks;
	return 0;
}

static int options_create(nghttp2_option **ret_option)
{
	nghttp2_option *option;
	if (nghttp2_option_new(&option))
		return -ENOMEM;
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_peer_max_concurrent_streams(option, PROXY_STREAMS_LIMIT);
	nghttp2_option_set_stream_reset_rate_limit(option, RESETS_BURST, RESETS_PER_S);
	*ret_option = option;
	return 0;
}

static int session_greet(nghttp2_session *session)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, PROXY_STREAMS_LIMIT},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_BYTES},
		{NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_BYTES},
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(*settings)) ||
	    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, SESSION_WINDOW_BYTES))
		return -ENOMEM;
	return 0;
}

int tunnel_session_start(struct tunnel *tunnel)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *option = NULL;
	int r = callbacks_create(&callbacks);
	if (!r)
		r = options_create(&option);
	if (!r && (tunnel->side->is_client ? nghttp2_session_client_new2(&tunnel->session, callbacks, tunnel, option)
					   : nghttp2_session_server_new2(&tunnel->session, callbacks, tunnel, option)))
		r = -ENOMEM;
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	return r ? r : session_greet(tunnel->session);
}
