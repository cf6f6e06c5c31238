"""How fast is the dream? What `cosmos-wm benchmark` measures, and how."""
