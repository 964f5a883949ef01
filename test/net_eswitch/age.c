/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ageing. Flows with an age action stand in a wheel of seconds. An alarm looks at the slots whose second has come: a
 * flow that was hit meanwhile moves to its new second, one that was not is reported. Aged flows stay reported until
 * they are destroyed, as with net_mlx5.
 */

#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "eswitch.h"

#define ALARM_US 250000

static uint64_t
seconds(uint64_t tsc)
{
	return tsc / rte_get_tsc_hz();
}

static uint64_t
last_hit(const struct rte_flow *flow)
{
	return __atomic_load_n(&flow->last_hit, __ATOMIC_RELAXED);
}

static uint64_t
due(const struct rte_flow *flow)
{
	return last_hit(flow) + flow->info.age_timeout * rte_get_tsc_hz();
}

static struct esw_flow_list *
slot_of(struct esw_age_wheel *wheel, const struct rte_flow *flow)
{
	/* In the second after it is due, but not in one that has been looked at. */
	uint64_t second = RTE_MAX(seconds(due(flow)) + 1, wheel->next_second);

	return &wheel->slot[second % ESW_AGE_SLOTS];
}

static struct esw_flow_list *
list_of(struct esw_nic *nic, struct rte_flow *flow)
{
	return flow->age == ESW_AGE_AGED ? &flow->owner->aged : &nic->ages.slot[flow->age_slot];
}

static void
wait_in_wheel(struct esw_nic *nic, struct rte_flow *flow)
{
	struct esw_flow_list *slot = slot_of(&nic->ages, flow);

	flow->age = ESW_AGE_WAITING;
	flow->age_slot = slot - nic->ages.slot;
	TAILQ_INSERT_TAIL(slot, flow, ageing);
}

static void
look_at_slot(struct esw_nic *nic, struct esw_flow_list *slot, uint64_t now)
{
	struct esw_flow_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
	struct rte_flow *flow;

	TAILQ_CONCAT(&waiting, slot, ageing);
	while ((flow = TAILQ_FIRST(&waiting)) != NULL) {
		TAILQ_REMOVE(&waiting, flow, ageing);
		if (due(flow) > now) {
			wait_in_wheel(nic, flow);
			continue;
		}
		flow->age = ESW_AGE_AGED;
		flow->owner->aged_news = true;
		TAILQ_INSERT_TAIL(&flow->owner->aged, flow, ageing);
	}
}

static void
look_at_wheel(struct esw_nic *nic)
{
	uint64_t now = rte_rdtsc();
	uint64_t second = seconds(now);
	uint64_t slots = RTE_MIN(second + 1 - nic->ages.next_second, (uint64_t)ESW_AGE_SLOTS);
	uint64_t i, first = second + 1 - slots;

	nic->ages.next_second = second + 1;
	for (i = 0; i < slots; i++)
		look_at_slot(nic, &nic->ages.slot[(first + i) % ESW_AGE_SLOTS], now);
}

/* Whether to tell the application of the port: once, until it has fetched the aged flows. */
static bool
take_news(struct esw_port *port)
{
	bool tell = port->dev != NULL && port->aged_news && !port->aged_told;

	port->aged_news = false;
	if (tell)
		port->aged_told = true;
	return tell;
}

static void
alarm(void *arg)
{
	struct rte_eth_dev *tell[ESW_MAX_PORTS];
	struct esw_nic *nic = arg;
	uint32_t i;

	pthread_mutex_lock(&nic->flow_lock);
	look_at_wheel(nic);
	for (i = 0; i < nic->ports; i++)
		tell[i] = take_news(nic->port[i]) ? nic->port[i]->dev : NULL;
	pthread_mutex_unlock(&nic->flow_lock);
	/* Without the lock: the callback may well call rte_flow. */
	for (i = 0; i < nic->ports; i++)
		if (tell[i] != NULL)
			rte_eth_dev_callback_process(tell[i], RTE_ETH_EVENT_FLOW_AGED, NULL);
	if (rte_eal_alarm_set(ALARM_US, alarm, nic) < 0)
		ESW_LOG(ERR, "%s: ageing stops: cannot set an alarm\n", nic->name);
}

/* Starts looking for flows that have aged. */
int
esw_age_start(struct esw_nic *nic)
{
	uint32_t i;
	int ret;

	for (i = 0; i < ESW_AGE_SLOTS; i++)
		TAILQ_INIT(&nic->ages.slot[i]);
	nic->ages.next_second = seconds(rte_rdtsc());
	ret = rte_eal_alarm_set(ALARM_US, alarm, nic);
	nic->alarm = ret == 0;
	return ret;
}

/* Stops it; waits for an alarm that is under way. */
void
esw_age_stop(struct esw_nic *nic)
{
	if (nic->alarm)
		rte_eal_alarm_cancel(alarm, nic);
	nic->alarm = false;
}

/* From now on the flow ages. */
void
esw_age_add(struct esw_nic *nic, struct rte_flow *flow)
{
	flow->last_hit = rte_rdtsc();
	wait_in_wheel(nic, flow);
}

/* Ends ageing, or reporting, of the flow. */
void
esw_age_remove(struct esw_nic *nic, struct rte_flow *flow)
{
	if (flow->age == ESW_AGE_NONE)
		return;
	TAILQ_REMOVE(list_of(nic, flow), flow, ageing);
	flow->age = ESW_AGE_NONE;
}

/* Seconds since the flow was hit last. */
uint64_t
esw_age_idle_seconds(const struct rte_flow *flow)
{
	uint64_t now = rte_rdtsc();
	uint64_t hit = last_hit(flow);

	return hit < now ? seconds(now - hit) : 0;
}
