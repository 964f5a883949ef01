/* SPDX-License-Identifier: Apache-2.0 */

/* The header parser on any bytes. libFuzzer's copy of them ends where they end, so that ASan sees
 * any step beyond. */

#include <stdlib.h>

#include "../key.h"
#include "../rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct esw_key *key, const struct esw_offsets *off, size_t size)
{
	int layer;

	for (layer = 0; layer < ESW_L3_MAX; layer++) {
		const struct esw_l3 *l3 = &key->l3[layer];

		if (off->l3[layer] > size || off->l4[layer] > size ||
		    (off->l3[layer] != 0) != (l3->version != 0) ||
		    (off->l4[layer] != 0) != (l3->l4 != 0) ||
		    (l3->l4 != 0 && (l3->fragment || l3->l4 != l3->proto)))
			abort();
	}
	if (off->l3[ESW_INNER] != 0 && off->l3[ESW_INNER] <= off->l3[ESW_OUTER])
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct esw_offsets off;
	struct esw_key key;

	esw_parse(data, size, &key, &off);
	check(&key, &off, size);
	esw_flow_hash(&key);
	if (size <= ESW_ENCAP_MAX) {
		esw_parse_template(data, size, &key, &off);
		check(&key, &off, size);
	}
	return 0;
}
