#define _GNU_SOURCE 1
#include "proxy/wire.h"

#include "proxy/place.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	ROUNDS = 8,		 /* reads of one tunnel before others have their turn */
	FLUSH_BYTES = 512 << 10, /* the same for writing */
	UNSENT_LIMIT_BYTES = 256 << 10,
	TLS_ALERT_RECORD = 21, /* RFC 8446, section 5.1 */
	TLS_HANDSHAKE_RECORD = 22,
};

/* ---- OpenSSL's view of the wire: the shared buffers ------------------------------------------------ */

static int bio_read(BIO *bio, char *out, int len)
{
	struct tunnel *tunnel = BIO_get_data(bio);
	struct proxy *proxy = tunnel->proxy;
	size_t left = proxy->cipher_in_len - proxy->cipher_in_at;
	BIO_clear_retry_flags(bio);
	if (!left) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if ((size_t)len > left)
		len = (int)left;
	memcpy(out, proxy->buffers->cipher_in + proxy->cipher_in_at, (size_t)len);
	proxy->cipher_in_at += (size_t)len;
	return len;
}

/* The socket takes what it can; the rest is kept, and nothing more is encrypted until it is gone. */
static bool wire_send(struct tunnel *tunnel)
{
	struct proxy *proxy = tunnel->proxy;
	const uint8_t *from = proxy->buffers->cipher_out;
	size_t len = proxy->cipher_out_len;
	proxy->cipher_out_len = 0;
	if (len && !tunnel->unsent) {
		ssize_t sent = send(tunnel->fd, from, len, MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			tunnel->is_hung = tunnel->is_readable = true; /* reading tells why */
			return false;
		}
		from += sent > 0 ? sent : 0;
		len -= sent > 0 ? (size_t)sent : 0;
	}
	if (!len)
		return !tunnel->unsent;
	uint8_t *grown = tunnel->unsent_len + len <= UNSENT_LIMIT_BYTES
				 ? realloc(tunnel->unsent, tunnel->unsent_len + len)
				 : NULL;
	if (!grown) {
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
		return false;
	}
	memcpy(grown + tunnel->unsent_len, from, len);
	tunnel->unsent = grown;
	tunnel->unsent_len += len;
	return false;
}

static bool wire_send_unsent(struct tunnel *tunnel)
{
	if (!tunnel->unsent)
		return true;
	ssize_t sent = send(tunnel->fd, tunnel->unsent + tunnel->unsent_at, tunnel->unsent_len - tunnel->unsent_at,
			    MSG_NOSIGNAL);
	if (sent > 0)
		tunnel->unsent_at += (size_t)sent;
	if (tunnel->unsent_at < tunnel->unsent_len)
		return false;
	free(tunnel->unsent);
	tunnel->unsent = NULL;
	tunnel->unsent_at = tunnel->unsent_len = 0;
	return true;
}

static int bio_write(BIO *bio, const char *data, int len)
{
	struct tunnel *tunnel = BIO_get_data(bio);
	struct proxy *proxy = tunnel->proxy;
	BIO_clear_retry_flags(bio);
	if (proxy->cipher_out_len + (size_t)len > PROXY_BUFFER_BYTES)
		return -1; /* not reached: wire_encrypt makes room first, and no handshake is that long */
	memcpy(proxy->buffers->cipher_out + proxy->cipher_out_len, data, (size_t)len);
	proxy->cipher_out_len += (size_t)len;
	return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO *bio_create(struct tunnel *tunnel)
{
	static BIO_METHOD *method;
	if (!method && (method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tunnel"))) {
		BIO_meth_set_read(method, bio_read);
		BIO_meth_set_write(method, bio_write);
		BIO_meth_set_ctrl(method, bio_ctrl);
	}
	BIO *bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, tunnel);
	BIO_set_init(bio, 1);
	return bio;
}

/* ---- The handshake ------------------------------------------------------------------------------- */

static void wire_fail(struct tunnel *tunnel)
{
	enum refusal refusal = identity_failure(tunnel->ssl);
	wire_send(tunnel); /* the alert */
	tunnel_end(tunnel, refusal_word(refusal), refusal_text(refusal));
}

static void wire_opened(struct tunnel *tunnel)
{
	enum refusal refusal = identity_peer(tunnel->ssl, &tunnel->who);
	const char *reason = refusal == REFUSAL_NONE ? tunnel->side->admit(tunnel) : refusal_word(refusal);
	if (reason) {
		tunnel_end(tunnel, reason, refusal == REFUSAL_NONE ? NULL : refusal_text(refusal));
		return;
	}
	tunnel_handshake_over(tunnel);
	if (tunnel_session_start(tunnel)) {
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
		return;
	}
	tunnel->state = TUNNEL_OPEN;
	tunnel_touch(tunnel);
	tunnel->side->on_room(tunnel);
}

static void wire_handshake(struct tunnel *tunnel)
{
	ERR_clear_error();
	int r = SSL_do_handshake(tunnel->ssl);
	if (r == 1)
		wire_opened(tunnel);
	else if (SSL_get_error(tunnel->ssl, r) != SSL_ERROR_WANT_READ)
		wire_fail(tunnel);
}

/* The buffer is everybody's: what a tunnel leaves in it when it dies would be sent to the next one's peer. */
static void wire_settle(struct tunnel *tunnel)
{
	if (tunnel->state == TUNNEL_DEAD)
		tunnel->proxy->cipher_out_len = 0;
	else if (tunnel->proxy->cipher_out_len)
		wire_send(tunnel);
}

void wire_start(struct tunnel *tunnel)
{
	BIO *bio = bio_create(tunnel);
	if (!bio) {
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
		return;
	}
	SSL_set_bio(tunnel->ssl, bio, bio);
	SSL_set_mode(tunnel->ssl, SSL_MODE_RELEASE_BUFFERS);
	if (!tunnel->side->is_client)
		return;
	tunnel->proxy->cipher_in_at = tunnel->proxy->cipher_in_len = 0;
	wire_handshake(tunnel);
	wire_settle(tunnel);
}

bool wire_is_outdated(const struct tunnel *tunnel)
{
	SSL *now = identities_server(tunnel->proxy->identities, tunnel_own_id(tunnel));
	bool is_outdated = !now || X509_cmp(SSL_get_certificate(now), SSL_get_certificate(tunnel->ssl));
	SSL_free(now);
	return is_outdated;
}

/* ---- Reading ------------------------------------------------------------------------------------- */

static void wire_ended(struct tunnel *tunnel, int error)
{
	if (error == SSL_ERROR_ZERO_RETURN)
		tunnel_end(tunnel, tunnel->stream_count ? REASON_PEER : NULL, "the tunnel was closed");
	else if (error != SSL_ERROR_WANT_READ)
		wire_fail(tunnel);
}

/* Several records at once: an application is written to for each of them otherwise. */
static void wire_decrypt(struct tunnel *tunnel)
{
	uint8_t *plain = tunnel->proxy->buffers->plain_in;
	int len = 1;
	while (tunnel->state == TUNNEL_OPEN && len > 0) {
		size_t gathered = 0;
		ERR_clear_error();
		while (gathered + PROXY_RECORD_BYTES <= PROXY_PLAIN_BYTES &&
		       (len = SSL_read(tunnel->ssl, plain + gathered, PROXY_RECORD_BYTES)) > 0)
			gathered += (size_t)len;
		int error = len > 0 ? SSL_ERROR_NONE : SSL_get_error(tunnel->ssl, len);
		if (gathered && tunnel_digest(tunnel, plain, gathered))
			tunnel_end(tunnel, REASON_PEER, "HTTP/2 that is none");
		else if (len <= 0)
			wire_ended(tunnel, error);
	}
}

/* All of cipher_in is used up: OpenSSL keeps an unfinished record by itself. */
static void wire_digest(struct tunnel *tunnel)
{
	const struct proxy *proxy = tunnel->proxy;
	uint8_t first = proxy->buffers->cipher_in[0];
	if (tunnel->is_fresh && first != TLS_HANDSHAKE_RECORD &&
	    !(first == TLS_ALERT_RECORD && tunnel->side->is_client)) {
		tunnel_end(tunnel, refusal_word(REFUSAL_NO_TLS), NULL);
		return;
	}
	tunnel->is_fresh = false;
	if (tunnel->state == TUNNEL_HANDSHAKE)
		wire_handshake(tunnel);
	if (tunnel->state == TUNNEL_OPEN)
		wire_decrypt(tunnel);
	wire_settle(tunnel);
}

static void wire_lost(struct tunnel *tunnel, int error)
{
	if (tunnel->state == TUNNEL_OPEN)
		tunnel_end(tunnel, tunnel->stream_count || error ? REASON_PEER : NULL, "the tunnel was cut");
	else
		tunnel_end(tunnel, tunnel->is_fresh ? REASON_UNREACHABLE : refusal_word(REFUSAL_TLS),
			   error ? strerrordesc_np(error) : "the peer closed the connection");
}

void wire_receive(struct tunnel *tunnel)
{
	struct proxy *proxy = tunnel->proxy;
	for (int round = 0; round < ROUNDS && tunnel->state != TUNNEL_DEAD; round++) {
		ssize_t len = recv(tunnel->fd, proxy->buffers->cipher_in, PROXY_BUFFER_BYTES, 0);
		if (len <= 0) {
			tunnel->is_readable = false;
			if (!len || (errno != EAGAIN && errno != EINTR))
				wire_lost(tunnel, len ? errno : 0);
			return;
		}
		proxy->cipher_in_at = 0;
		proxy->cipher_in_len = (size_t)len;
		tunnel->heard_ms = loop_now_ms();
		tunnel->is_pinged = false;
		wire_digest(tunnel);
		/* Edge-triggered: a short read has emptied the socket, and what comes after it is an event. */
		if (len < PROXY_BUFFER_BYTES && !tunnel->is_hung) {
			tunnel->is_readable = false;
			return;
		}
	}
}

/* ---- Writing ------------------------------------------------------------------------------------- */

static int wire_encrypt(struct tunnel *tunnel, const uint8_t *data, size_t len)
{
	struct proxy *proxy = tunnel->proxy;
	if (proxy->cipher_out_len + PROXY_RECORD_BYTES + 512 > PROXY_BUFFER_BYTES)
		wire_send(tunnel);
	if (tunnel->state == TUNNEL_DEAD)
		return -EPIPE;
	ERR_clear_error();
	if (SSL_write(tunnel->ssl, data, (int)len) == (int)len)
		return 0;
	wire_fail(tunnel);
	return -EPIPE;
}

static int wire_encrypt_gathered(struct tunnel *tunnel)
{
	size_t len = tunnel->proxy->plain_out_len;
	tunnel->proxy->plain_out_len = 0;
	return len ? wire_encrypt(tunnel, tunnel->proxy->buffers->plain_out, len) : 0;
}

/* Frames share a record as long as they fit; a large one is its own record, and is not copied. */
static int wire_gather(struct tunnel *tunnel, const uint8_t *data, size_t len)
{
	struct proxy *proxy = tunnel->proxy;
	int r = 0;
	if (proxy->plain_out_len + len > PROXY_RECORD_BYTES)
		r = wire_encrypt_gathered(tunnel);
	for (; !r && len >= PROXY_RECORD_BYTES / 2;) {
		size_t part = len < PROXY_RECORD_BYTES ? len : PROXY_RECORD_BYTES;
		if (proxy->plain_out_len)
			r = wire_encrypt_gathered(tunnel);
		if (!r)
			r = wire_encrypt(tunnel, data, part);
		data += part;
		len -= part;
	}
	if (!r && len) {
		memcpy(proxy->buffers->plain_out + proxy->plain_out_len, data, len);
		proxy->plain_out_len += len;
	}
	return r;
}

static int wire_fill(struct tunnel *tunnel)
{
	const uint8_t *data;
	size_t sent = 0;
	while (!tunnel->unsent && sent < FLUSH_BYTES) {
		ssize_t len = nghttp2_session_mem_send(tunnel->session, &data);
		if (len < 0)
			tunnel_end(tunnel, REASON_OVERLOAD, nghttp2_strerror((int)len));
		if (len <= 0)
			return (int)len;
		int r = wire_gather(tunnel, data, (size_t)len);
		if (r)
			return r;
		sent += (size_t)len;
	}
	if (!tunnel->unsent)
		tunnel_touch(tunnel); /* there may be more: after the others */
	return 0;
}

void tunnel_flush(struct tunnel *tunnel)
{
	if (tunnel->state == TUNNEL_DEAD || !wire_send_unsent(tunnel) || tunnel->state != TUNNEL_OPEN)
		return;
	tunnel->proxy->plain_out_len = 0;
	if (wire_fill(tunnel) || wire_encrypt_gathered(tunnel))
		return;
	wire_send(tunnel);
	if (tunnel->state == TUNNEL_OPEN && !nghttp2_session_want_read(tunnel->session) &&
	    !nghttp2_session_want_write(tunnel->session) && !tunnel->unsent)
		tunnel_end(tunnel, tunnel->stream_count ? REASON_PEER : NULL, "the session is over");
}

void wire_say_goodbye(struct tunnel *tunnel)
{
	ERR_clear_error();
	SSL_shutdown(tunnel->ssl);
	wire_send(tunnel);
}
