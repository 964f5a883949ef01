/* SPDX-License-Identifier: Apache-2.0 */

/* The card's events to the driver, each by a file descriptor: completions, queries
 * that are done, and that the device has failed. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* Events that wait in a channel; the driver reads them soon. */
#define WAITING 1024

/* The channel of verbs begins so; the driver polls the descriptor. */
struct cx_channel {
	union {
		struct mlx5dv_devx_event_channel events;
		struct mlx5dv_devx_cmd_comp commands;
	};
	pthread_mutex_t lock;
	uint64_t waiting[WAITING];
	uint32_t head;
	uint32_t tail;
};

static struct cx_channel *
open_channel(void)
{
	struct cx_channel *channel = calloc(1, sizeof(*channel));

	if (channel == NULL)
		return NULL;
	channel->events.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (channel->events.fd < 0) {
		free(channel);
		return NULL;
	}
	pthread_mutex_init(&channel->lock, NULL);
	return channel;
}

static void
close_channel(struct cx_channel *channel)
{
	close(channel->events.fd);
	free(channel);
}

static int
add(struct cx_channel *channel, uint64_t event)
{
	const uint64_t one = 1;
	int ret = 0;

	pthread_mutex_lock(&channel->lock);
	if (channel->head - channel->tail == WAITING)
		ret = cx_refuse(EAGAIN, "an event channel that nobody reads");
	else
		channel->waiting[channel->head++ % WAITING] = event;
	pthread_mutex_unlock(&channel->lock);
	if (ret == 0 && write(channel->events.fd, &one, sizeof(one)) < 0)
		ret = errno;
	return ret;
}

static bool
take(struct cx_channel *channel, uint64_t *event)
{
	uint64_t n;
	bool some;

	pthread_mutex_lock(&channel->lock);
	some = channel->head != channel->tail;
	if (some)
		*event = channel->waiting[channel->tail++ % WAITING];
	/* The descriptor is readable while there is something. */
	if (channel->head == channel->tail && read(channel->events.fd, &n, sizeof(n)) < 0 &&
	    errno != EAGAIN)
		cx_refuse(errno, "read of an event channel: %s", strerror(errno));
	pthread_mutex_unlock(&channel->lock);
	return some;
}

void
cx_channel_tell(struct cx_channel *channel, uint64_t cookie)
{
	add(channel, cookie);
}

static struct mlx5dv_devx_event_channel *
create_event_channel(struct ibv_context *context, int flags)
{
	struct cx_channel *channel = open_channel();

	(void)context;
	(void)flags;
	return channel == NULL ? NULL : &channel->events;
}

static struct cx_channel *dying;

static void
forget(void *object)
{
	struct cx_cq *cq = object;

	if (load_relaxed(&cq->channel) == dying)
		atomic_store_explicit(&cq->channel, NULL, memory_order_release);
}

static void
destroy_event_channel(struct mlx5dv_devx_event_channel *events)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	dying = (struct cx_channel *)events;
	cx_object_each(CX_CQ, forget);
	cx_thread_wait();
	close_channel(dying);
	dying = NULL;
	pthread_mutex_unlock(&lock);
}

/* Completion events only (number 0), of one queue. */
static int
subscribe(struct mlx5dv_devx_event_channel *events, struct mlx5dv_devx_obj *object, uint16_t size,
	  uint16_t number[], uint64_t cookie)
{
	struct cx_cq *cq;

	if (object == NULL || object->type != CX_CQ || size != sizeof(number[0]) ||
	    number[0] != 0) {
		errno = cx_refuse(
			ENOTSUP,
			"devx_subscribe_devx_event: other events than a queue's completions");
		return -1;
	}
	cq = cx_object_get(CX_CQ, object->id);
	cq->cookie = cookie;
	atomic_store_explicit(&cq->channel, (struct cx_channel *)events, memory_order_release);
	return 0;
}

static ssize_t
get_event(struct mlx5dv_devx_event_channel *events, struct mlx5dv_devx_async_event_hdr *event,
	  size_t size)
{
	uint64_t cookie;

	if (size < sizeof(*event)) {
		errno = EINVAL;
		return -1;
	}
	if (!take((struct cx_channel *)events, &cookie)) {
		errno = EAGAIN;
		return -1;
	}
	event->cookie = cookie;
	return sizeof(*event);
}

static struct mlx5dv_devx_cmd_comp *
create_cmd_comp(struct ibv_context *context)
{
	struct cx_channel *channel = open_channel();

	(void)context;
	return channel == NULL ? NULL : &channel->commands;
}

static void
destroy_cmd_comp(struct mlx5dv_devx_cmd_comp *commands)
{
	close_channel((struct cx_channel *)commands);
}

/* The query is done at once; that it is comes later, as with a card. */
static int
query_async(struct mlx5dv_devx_obj *object, const void *in, size_t in_size, size_t out_size,
	    uint64_t wr_id, struct mlx5dv_devx_cmd_comp *commands)
{
	uint32_t out[MLX5_ST_SZ_DW(query_flow_counter_out) + MLX5_ST_SZ_DW(traffic_counter)] = {
		0
	};
	int ret;

	(void)object;
	(void)in_size;
	(void)out_size;
	if (MLX5_GET(query_flow_counter_in, in, opcode) != MLX5_CMD_OP_QUERY_FLOW_COUNTER)
		return cx_refuse(ENOTSUP, "devx_obj_query_async of opcode %#x",
				 MLX5_GET(query_flow_counter_in, in, opcode));
	ret = cx_counters_query(in, out, sizeof(out));
	return ret != 0 ? ret : add((struct cx_channel *)commands, wr_id);
}

/* The answer is all zero: it went well, and the counters are in memory. */
static int
get_async_cmd_comp(struct mlx5dv_devx_cmd_comp *commands, struct mlx5dv_devx_async_cmd_hdr *answer,
		   size_t size)
{
	uint64_t wr_id;

	if (!take((struct cx_channel *)commands, &wr_id))
		return EAGAIN;
	memset(answer, 0, size);
	answer->wr_id = wr_id;
	return 0;
}

int
cx_event_init(struct cx_hca *hca)
{
	hca->context.async_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return hca->context.async_fd < 0 ? errno : 0;
}

void
cx_event_fatal(struct cx_hca *hca)
{
	const uint64_t one = 1;

	atomic_store_explicit(&hca->fatal, true, memory_order_release);
	if (write(hca->context.async_fd, &one, sizeof(one)) < 0)
		cx_refuse(errno, "write of a device event: %s", strerror(errno));
}

static int
get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	uint64_t n;

	if (read(context->async_fd, &n, sizeof(n)) < 0)
		return -1;
	memset(event, 0, sizeof(*event));
	event->event_type = IBV_EVENT_DEVICE_FATAL;
	return 0;
}

static void
ack_async_event(struct ibv_async_event *event)
{
	(void)event;
}

void
cx_event_glue(struct mlx5_glue *glue)
{
	glue->devx_create_event_channel = create_event_channel;
	glue->devx_destroy_event_channel = destroy_event_channel;
	glue->devx_subscribe_devx_event = subscribe;
	glue->devx_get_event = get_event;
	glue->devx_create_cmd_comp = create_cmd_comp;
	glue->devx_destroy_cmd_comp = destroy_cmd_comp;
	glue->devx_obj_query_async = query_async;
	glue->devx_get_async_cmd_comp = get_async_cmd_comp;
	glue->get_async_event = get_async_event;
	glue->ack_async_event = ack_async_event;
}
