/* SPDX-License-Identifier: Apache-2.0 */

/* Indirect actions: counters and ages that several rules of a port share. */

#include <errno.h>
#include <stdlib.h>

#include "eswitch.h"

static struct esw_port *
port_of(const struct rte_eth_dev *dev)
{
	return dev->data->dev_private;
}

static bool
owns(const struct esw_port *port, const struct rte_flow_action_handle *handle)
{
	return handle != NULL && handle->owner == port && !handle->released;
}

static int
check_age(const struct esw_port *port, const struct rte_flow_action *action,
	  struct rte_flow_error *error)
{
	const struct rte_flow_action_age *age = action->conf;

	if (age == NULL)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "action AGE: needs a configuration");
	if (age->timeout == 0)
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "action AGE: the timeout is 0");
	if (port->nic->card == ESW_CX5)
		return esw_flow_error(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL,
				      "action AGE: a ConnectX-5 keeps no ages");
	return 0;
}

static int
check(const struct esw_port *port, const struct rte_flow_action *action,
      struct rte_flow_error *error)
{
	switch (action->type) {
	case RTE_FLOW_ACTION_TYPE_COUNT:
		return 0;
	case RTE_FLOW_ACTION_TYPE_AGE:
		return check_age(port, action, error);
	default:
		return esw_flow_error(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ACTION, action,
				      "only COUNT and AGE can be indirect");
	}
}

static void
start_age(struct rte_flow_action_handle *handle, const struct rte_flow_action_age *conf)
{
	handle->age.last_hit = &handle->last_hit;
	handle->age.timeout = conf->timeout;
	handle->age.context = conf->context != NULL ? conf->context : handle;
	handle->age.port = handle->owner;
	esw_age_add(handle->owner->nic, &handle->age);
}

/* Makes an action that rules can name by its handle. An age starts at once. */
struct rte_flow_action_handle *
esw_indirect_create(struct rte_eth_dev *dev,
		    const struct rte_flow_indir_action_conf *conf __rte_unused,
		    const struct rte_flow_action *action, struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	struct rte_flow_action_handle *handle;

	if (check(port, action, error) < 0)
		return NULL;
	handle = calloc(1, sizeof(*handle));
	if (handle == NULL) {
		esw_flow_error(error, ENOMEM, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, "no memory");
		return NULL;
	}
	handle->owner = port;
	handle->type = action->type;
	pthread_mutex_lock(&port->nic->flow_lock);
	if (handle->type == RTE_FLOW_ACTION_TYPE_AGE)
		start_age(handle, action->conf);
	TAILQ_INSERT_TAIL(&port->handles, handle, owned);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return handle;
}

static void
destroy(struct rte_flow_action_handle *handle)
{
	TAILQ_REMOVE(&handle->owner->handles, handle, owned);
	esw_age_remove(handle->owner->nic, &handle->age);
	free(handle);
}

/* Counts a flow more among its users, or one less that the pipeline is not at any more. Called
 * under the flow lock. */
void
esw_indirect_use(struct rte_flow_action_handle *handle, int by)
{
	handle->users += by;
	if (handle->users == 0 && handle->released)
		destroy(handle);
}

/* As with net_mlx5 a counter may have no users any more, and an age goes with the last of them. */
int
esw_indirect_destroy(struct rte_eth_dev *dev, struct rte_flow_action_handle *handle,
		     struct rte_flow_error *error)
{
	struct esw_port *port = port_of(dev);
	int ret = 0;

	if (!owns(port, handle))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, handle,
				      "no indirect action of this port");
	pthread_mutex_lock(&port->nic->flow_lock);
	if (handle->users > 0 && handle->type == RTE_FLOW_ACTION_TYPE_AGE)
		handle->released = true;
	else if (handle->users > 0)
		ret = esw_flow_error(error, EBUSY, RTE_FLOW_ERROR_TYPE_HANDLE, handle,
				     "%u rules have this indirect action", handle->users);
	else
		destroy(handle);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

/* As with net_mlx5 (dv_flow_en=1) these actions cannot be updated. */
int
esw_indirect_update(struct rte_eth_dev *dev, struct rte_flow_action_handle *handle,
		    const void *update __rte_unused, struct rte_flow_error *error)
{
	if (!owns(port_of(dev), handle))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, handle,
				      "no indirect action of this port");
	return esw_flow_error(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ACTION, NULL,
			      "indirect COUNT and AGE cannot be updated");
}

int
esw_indirect_query(struct rte_eth_dev *dev, const struct rte_flow_action_handle *handle, void *data,
		   struct rte_flow_error *error)
{
	/* The API says const; a query with reset changes what it resets. */
	struct rte_flow_action_handle *own = (struct rte_flow_action_handle *)(uintptr_t)handle;
	struct esw_port *port = port_of(dev);
	int ret;

	if (!owns(port, handle))
		return esw_flow_error(error, EINVAL, RTE_FLOW_ERROR_TYPE_HANDLE, handle,
				      "no indirect action of this port");
	pthread_mutex_lock(&port->nic->flow_lock);
	if (own->type == RTE_FLOW_ACTION_TYPE_COUNT)
		ret = esw_flow_query_counter(&own->counter, data);
	else
		ret = esw_flow_query_age(&own->age, data);
	pthread_mutex_unlock(&port->nic->flow_lock);
	return ret;
}

/* Frees what the application has left; the port's rules are gone. */
void
esw_indirect_free_port(struct esw_port *port)
{
	struct rte_flow_action_handle *handle;

	pthread_mutex_lock(&port->nic->flow_lock);
	while ((handle = TAILQ_FIRST(&port->handles)) != NULL)
		destroy(handle);
	pthread_mutex_unlock(&port->nic->flow_lock);
}
