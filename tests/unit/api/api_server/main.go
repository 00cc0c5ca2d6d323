// Answers as an API server would, with its own code: reads a CustomResourceDefinition and cases, prints the cases with
// what became of each. It renews the answers that test_admission.py holds kvpool_api.validation to:
//
//	go run . ../../../../crds/inferencepools.yaml ../api_server_answers.json > renewed.json
//
// It also prints what the API server has against the definition itself, its CEL cost included.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

type answer struct {
	Case    string                 `json:"case"`
	New     map[string]interface{} `json:"new"`
	Old     map[string]interface{} `json:"old"`
	Object  map[string]interface{} `json:"object"`
	Unknown []string               `json:"unknown"`
	Errors  [][2]string            `json:"errors"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	raw, err := os.ReadFile(os.Args[1])
	must(err)
	crd := &v1.CustomResourceDefinition{}
	must(yaml.Unmarshal(raw, crd))
	v1.SetDefaults_CustomResourceDefinition(crd)
	v1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	in := &apiextensions.CustomResourceDefinition{}
	must(v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, in, nil))
	in.Status.StoredVersions = []string{"v1alpha1"}
	for _, e := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), in) {
		fmt.Fprintln(os.Stderr, "CRD:", e)
	}
	sv, err := apiextensions.GetSchemaForVersion(in, "v1alpha1")
	must(err)
	st, err := structuralschema.NewStructural(sv.OpenAPIV3Schema)
	must(err)
	must(defaulting.PruneDefaults(st))
	celv := cel.NewValidator(st, true, celconfig.PerCallLimit)
	sch, _, err := validation.NewSchemaValidator(sv.OpenAPIV3Schema)
	must(err)
	var cases []answer
	rawc, err := os.ReadFile(os.Args[2])
	must(err)
	must(kjson.Unmarshal(rawc, &cases))
	var out []answer
	for _, c := range cases {
		obj := runtime.DeepCopyJSONValue(c.New).(map[string]interface{})
		unknown := pruning.PruneWithOptions(obj, st, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
		defaulting.PruneNonNullableNullsWithoutDefaults(obj, st)
		defaulting.Default(obj, st)
		errs := append(validation.ValidateCustomResource(nil, obj, sch), listtype.ValidateListSetsAndMaps(nil, st, obj)...)
		if blocks(errs) {
			errs = append(errs, field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"))
		} else {
			var old interface{}
			if c.Old != nil {
				old = c.Old
			}
			broken, _ := celv.Validate(context.Background(), nil, st, obj, old, celconfig.RuntimeCELCostBudget)
			errs = append(errs, broken...)
		}
		a := answer{Case: c.Case, New: c.New, Old: c.Old, Unknown: unknown}
		if len(errs) == 0 && len(unknown) == 0 {
			a.Object = obj
		}
		for _, e := range errs {
			a.Errors = append(a.Errors, [2]string{e.Field, e.ErrorBody()})
		}
		sort.Slice(a.Errors, func(i, j int) bool { return fmt.Sprint(a.Errors[i]) < fmt.Sprint(a.Errors[j]) })
		out = append(out, a)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	must(encoder.Encode(out))
}

// blocks tells whether the API server leaves CEL rules out after these errors (registry/customresource/strategy.go).
func blocks(errs field.ErrorList) bool {
	for _, e := range errs {
		switch e.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return true
		}
	}
	return false
}
